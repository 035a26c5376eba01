//! The settings of this room.

use payments::provider::ProviderConfig;
use shared::config::Settings;

#[test]
fn every_bad_setting_is_named_and_the_secret_is_never_shown() {
    let given = [
        ("STRIPE_API_BASE", "stripe"),
        ("PROVIDER_CALLS", "0"),
        ("PROVIDER_TIMEOUT", "11s"),
        ("PROVIDER_RETRIES", "-1"),
        ("PROVIDER_BREAKER_FAILURES", "0"),
        ("PROVIDER_BREAKER_PAUSE", "soon"),
    ];
    let environment = given.map(|(name, value)| (name.to_owned(), value.into()));
    let mut settings = Settings::new("payments", "Payments.", &[], [], environment);
    let read = ProviderConfig::read(&mut settings);
    let text = settings.finish(read).unwrap_err().to_string();
    for (name, _) in given.iter().chain(&[("STRIPE_SECRET_KEY", "")]) {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name}: "))), "{name} in\n{text}");
    }

    let environment = [("STRIPE_SECRET_KEY".to_owned(), "sk_test_hidden\n".into())];
    let mut settings = Settings::new("payments", "Payments.", &[], [], environment);
    let read = ProviderConfig::read(&mut settings);
    let text = settings.finish(read).unwrap_err().to_string();
    assert!(text.starts_with("STRIPE_SECRET_KEY: must be printable ASCII") && !text.contains("hidden"), "{text}");

    let environment = [("STRIPE_SECRET_KEY".to_owned(), "sk_test_hidden".into())];
    let mut settings = Settings::new("payments", "Payments.", &[], [], environment);
    let read = ProviderConfig::read(&mut settings);
    let config = settings.finish(read).unwrap();
    assert_eq!(config.base.as_str(), "https://api.stripe.com/");
    assert!(!format!("{config:?}").contains("hidden"));
}
