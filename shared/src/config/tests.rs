use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, time::Duration};

use super::*;

const COMMANDS: &[Command] = &[Command { name: "migrate", about: "applies the migrations and exits" }];
const DEFAULTS: Defaults =
    Defaults { grpc_address: "127.0.0.1:50051", ops_address: "127.0.0.1:9101", consumer_pace: "1ms" };
/// What has no default.
const REQUIRED: [(&str, &str); 4] = [
    ("DATABASE_URL", "postgres://orders:hunter2@localhost:5433/orders"),
    ("JWKS", "/etc/jwks.json"),
    ("JWT_ISSUER", "https://issuer.example"),
    ("JWT_AUDIENCE", "ticketing"),
];

fn settings(arguments: &[&str], environment: &[(&str, &str)]) -> Settings {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value)));
    Settings::new("orders", "Orders.", COMMANDS, arguments.iter().map(|text| (*text).to_owned()), environment)
}

/// Reads the common settings, all that is required being there but for what is said here.
fn read(arguments: &[&str], environment: &[(&str, &str)]) -> Result<CommonConfig, Stop> {
    let required = REQUIRED.iter().filter(|(name, _)| !environment.iter().any(|(given, _)| given == name));
    let environment: Vec<_> = required.chain(environment).copied().filter(|(_, value)| *value != "<unset>").collect();
    let mut settings = settings(arguments, &environment);
    let config = CommonConfig::read(&mut settings, &DEFAULTS);
    settings.finish(config)
}

/// The names at fault, in the order in which they are told.
fn faults(outcome: Result<CommonConfig, Stop>) -> Vec<String> {
    match outcome {
        Ok(_) => Vec::new(),
        Err(Stop::Faults(faults)) => faults.into_iter().map(|fault| fault.name).collect(),
        Err(Stop::Help(text)) => unreachable!("no help was asked for: {text}"),
    }
}

#[test]
fn a_program_without_commands_asks_for_none_and_takes_none() {
    let settings = |argument: &str| Settings::new("orders", "Orders.", &[], [argument.to_owned()], []);
    let Err(stop) = settings("--help").finish(Some(())) else { panic!("help was asked for") };
    assert!(stop.to_string().contains("Usage: orders [--name value]…"), "{stop}");
    let Err(stop) = settings("serve").finish(Some(())) else { panic!("there is no such command") };
    assert!(stop.to_string().starts_with("argument: there is none but flags"), "{stop}");
}

#[test]
fn what_has_a_default_needs_not_be_said() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.kafka.brokers, "localhost:9092");
    assert_eq!((config.kafka.topic_partitions, config.kafka.topic_replication), (6, 1));
    assert_eq!(config.kafka.topic_prefix, "");
    assert_eq!(config.grpc_address.to_string(), "127.0.0.1:50051");
    assert_eq!(config.ops_address.to_string(), "127.0.0.1:9101");
    assert!(config.database.migrate_on_start);
    assert_eq!(config.auth.jwks, JwksSource::File("/etc/jwks.json".into()));
    assert_eq!(config.telemetry.log_filter, "info");
    assert_eq!((config.telemetry.log_format, config.telemetry.export), (None, None));
    assert_eq!(config.telemetry.span_queue, 2048);
    assert_eq!(config.telemetry.sampler, SamplerConfig::DEFAULT);
    assert_eq!(config.limits.shutdown_grace, Duration::from_secs(1));
}

#[test]
fn a_flag_goes_before_its_variable_and_that_before_the_default() {
    for (arguments, environment, expected) in [
        (&[][..], &[][..], "localhost:9092"),
        (&[], &[("KAFKA_BROKERS", "env:1")], "env:1"),
        (&["--kafka-brokers", "flag:1,flag:2"], &[("KAFKA_BROKERS", "env:1")], "flag:1,flag:2"),
        (&["--kafka-brokers=flag:1"], &[("KAFKA_BROKERS", "what doesn't matter")], "flag:1"),
    ] {
        assert_eq!(read(arguments, environment).unwrap().kafka.brokers, expected, "{arguments:?} {environment:?}");
    }
}

#[test]
fn each_setting_is_what_it_should_be_or_a_fault() {
    for (name, value, sound) in [
        ("KAFKA_BROKERS", "kafka-srv:9092", true),
        ("KAFKA_BROKERS", "[::1]:9092,b:1", true),
        ("KAFKA_BROKERS", "", false),
        ("KAFKA_BROKERS", "kafka-srv", false),
        ("KAFKA_BROKERS", "a:1,", false),
        ("KAFKA_BROKERS", "a:0", false),
        ("KAFKA_BROKERS", "http://a:1", false),
        ("DATABASE_URL", "postgresql://localhost/orders", true),
        ("DATABASE_URL", "<unset>", false),
        ("DATABASE_URL", "", false),
        ("DATABASE_URL", "host=localhost dbname=orders", false),
        ("DATABASE_URL", "postgres://localhost", false),
        ("DATABASE_URL", "mysql://localhost/orders", false),
        ("DATABASE_URL", "postgres://one,two:5433/orders?sslmode=prefer", true),
        ("DATABASE_URL", "postgres://localhost/orders?sslmode=require", false),
        ("DATABASE_URL", "postgres://localhost/orders?hostaddr=127.0.0.1", false),
        ("DATABASE_URL", "postgres://one,two/orders?target_session_attrs=read-write", false),
        ("GRPC_ADDR", "0.0.0.0:50052", true),
        ("GRPC_ADDR", "[::]:0", true),
        ("GRPC_ADDR", "", false),
        ("GRPC_ADDR", ":50051", false),
        ("GRPC_ADDR", "127.0.0.1", false),
        ("GRPC_ADDR", "127.0.0.1:99999", false),
        ("OPS_ADDR", "localhost:9101", false),
        ("JWKS", "https://issuer.example/jwks.json", true),
        ("JWKS", "relative/jwks.json", true),
        ("JWKS", "<unset>", false),
        ("JWKS", "", false),
        ("JWKS", "ftp://issuer.example/jwks.json", false),
        ("JWKS", "https://", false),
        ("JWT_ISSUER", "<unset>", false),
        ("JWT_ISSUER", "", false),
        ("JWT_AUDIENCE", "<unset>", false),
        ("JWKS_REREAD_AFTER", "5s", true),
        ("JWKS_REREAD_AFTER", "soon", false),
        ("MIGRATE_ON_START", "false", true),
        ("MIGRATE_ON_START", "no", false),
        ("MIGRATE_ON_START", "", false),
        ("KAFKA_TOPIC_PARTITIONS", "1", true),
        ("KAFKA_TOPIC_PARTITIONS", "0", false),
        ("KAFKA_TOPIC_PARTITIONS", "-6", false),
        ("KAFKA_TOPIC_PARTITIONS", "six", false),
        ("KAFKA_TOPIC_REPLICATION", "3", true),
        ("KAFKA_TOPIC_REPLICATION", "1.5", false),
        ("KAFKA_TOPIC_PREFIX", "", true),
        ("KAFKA_TOPIC_PREFIX", "staging-2.", true),
        ("KAFKA_TOPIC_PREFIX", "staging/2", false),
        ("RUST_LOG", "warn,shared::outbox=debug", true),
        ("RUST_LOG", "=", false),
        ("RUST_LOG", "", false),
        ("LOG_FORMAT", "json", true),
        ("LOG_FORMAT", "JSON", false),
        ("LOG_FORMAT", "", false),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317", true),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:4317", false),
        ("METRICS_SAMPLE_EVERY", "1y", true),
        ("METRICS_SAMPLE_EVERY", "1y 2d", false),
        ("METRICS_SAMPLE_EVERY", "0s", false),
        ("SHUTDOWN_GRACE", "0s", true),
        ("SHUTDOWN_GRACE", "500y", false),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", true), // its specification has it so
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317", false),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", true),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4317", true),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "localhost:4317", false),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "", true),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", true),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", false),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", false),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "", true),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "64", true),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", false),
        ("TRACING_EXPORTER", "otlp", true),
        ("TRACING_EXPORTER", "jaeger-agent", cfg!(feature = "jaeger-agent")),
        ("TRACING_EXPORTER", "zipkin", false),
        ("TRACING_EXPORTER", "", false),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio", true),
        ("OTEL_TRACES_SAMPLER", "always_off", true),
        ("OTEL_TRACES_SAMPLER", "sometimes", false),
        ("OTEL_TRACES_SAMPLER_ARG", "0.1", true),
        ("OTEL_TRACES_SAMPLER_ARG", "1.1", false),
        ("WRITE_QUEUE", "0", false),
        ("WRITE_BATCH", "1", true),
        ("CONSUMER_BATCH", "", false),
        ("RELAY_BATCH", "1e3", false),
        ("DATABASE_POOL", "16", true),
        ("SHUTDOWN_GRACE", "0s", true),
        ("SHUTDOWN_GRACE", "1", false),
        ("SHUTDOWN_DRAIN", "-1s", false),
    ] {
        let expected = if sound { vec![] } else { vec![name] };
        assert_eq!(faults(read(&[], &[(name, value)])), expected, "{name}={value}");
    }
}

#[test]
fn all_faults_are_told_at_once_a_line_each_and_no_secret_with_them() {
    let url = "mysql://orders:hunter2@localhost/orders";
    let environment = [("DATABASE_URL", url), ("JWT_ISSUER", "<unset>"), ("KAFKA_TOPIC_PARTITIONS", "0")];
    let stop =
        read(&["--grpc-addr", "here", "--no-such", "hunter2", "--database-url=hunter2", "hunter2"], &environment);
    let stop = stop.unwrap_err();
    assert_eq!(stop.exit_code(), 64);
    let text = stop.to_string();
    for name in [
        "GRPC_ADDR: must be an IP address",
        "DATABASE_URL: must be a URL like",
        "--database-url: is a secret",
        "JWT_ISSUER: is required",
        "KAFKA_TOPIC_PARTITIONS: must be a whole number from 1 to 10000, but is \"0\"",
        "--no-such: no such flag",
        "argument: ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in\n{text}");
    }
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn of_settings_that_belong_together_each_is_judged() {
    for (given, expected) in [
        (
            &[("OTEL_TRACES_SAMPLER", "sometimes"), ("OTEL_TRACES_SAMPLER_ARG", "9")][..],
            &["OTEL_TRACES_SAMPLER_ARG", "OTEL_TRACES_SAMPLER"][..],
        ),
        (&[("DATABASE_URL", ""), ("DATABASE_URL_FILE", "")], &["DATABASE_URL", "DATABASE_URL_FILE"]),
        (&[("GRPC_ADDR", "127.0.0.1:1"), ("OPS_ADDR", "127.0.0.1:1")], &["OPS_ADDR"]),
        (&[("GRPC_ADDR", "127.0.0.1:1"), ("OPS_ADDR", "127.0.0.2:1")], &[]),
        (&[("GRPC_ADDR", "127.0.0.1:0"), ("OPS_ADDR", "127.0.0.1:0")], &[]),
    ] {
        assert_eq!(faults(read(&[], given)), expected, "{given:?}");
    }
}

#[test]
fn a_url_is_shown_without_what_may_be_a_password() {
    for (url, shown) in [
        ("ftp://jane:hunter2@issuer.example/keys", "\"ftp://…@issuer.example/keys\""),
        ("ftp://issuer.example/@keys", "\"ftp://issuer.example/@keys\""),
    ] {
        let text = read(&[], &[("JWKS", url)]).unwrap_err().to_string();
        assert!(text.contains(shown), "{text}");
    }
}

#[test]
fn a_secret_comes_from_its_variable_or_a_file_and_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    fs::write(&path, "postgres://orders:hunter2@localhost/orders\n").unwrap();
    let path = path.to_str().unwrap();

    let config = read(&[], &[("DATABASE_URL", "<unset>"), ("DATABASE_URL_FILE", path)]).unwrap();
    assert_eq!(config.database.url.expose(), "postgres://orders:hunter2@localhost/orders");
    assert!(!format!("{config:?}").contains("hunter2"));

    assert_eq!(faults(read(&[], &[("DATABASE_URL_FILE", path)])), ["DATABASE_URL"], "both are given");
    let missing = [("DATABASE_URL", "<unset>"), ("DATABASE_URL_FILE", "/nowhere/url")];
    assert_eq!(faults(read(&[], &missing)), ["DATABASE_URL_FILE"]);
    assert_eq!(faults(read(&["--database-url-file", path], &[])), ["--database-url-file"]);
}

#[test]
fn a_command_is_one_that_the_program_knows() {
    for (arguments, expected) in [
        (&[][..], Ok(None)),
        (&["migrate"], Ok(Some("migrate"))),
        (&["migrate", "--database-pool", "4"], Ok(Some("migrate"))),
        (&["--database-pool=4", "migrate"], Ok(Some("migrate"))),
        (&["serve"], Err(vec!["argument"])),
        (&["migrate", "migrate"], Err(vec!["argument"])),
        (&["--database-pool"], Err(vec!["DATABASE_POOL"])),
        (&["--database-pool", "4", "--database-pool", "5"], Err(vec!["--database-pool"])),
        (&["-x"], Err(vec!["argument"])),
    ] {
        let mut settings = settings(arguments, &REQUIRED);
        let command = settings.command();
        let config = CommonConfig::read(&mut settings, &DEFAULTS);
        let outcome = settings.finish(config).map(|_| command);
        let names = |stop| match stop {
            Stop::Faults(faults) => faults.into_iter().map(|fault| fault.name).collect::<Vec<_>>(),
            Stop::Help(_) => Vec::new(),
        };
        let expected = expected.map_err(|names| names.into_iter().map(str::to_owned).collect());
        assert_eq!(outcome.map_err(names), expected, "{arguments:?}");
    }
}

#[test]
fn help_lists_every_setting_even_if_all_of_them_are_wrong() {
    let mut settings = settings(&["--help", "--nonsense"], &[("KAFKA_BROKERS", "")]);
    let config = CommonConfig::read(&mut settings, &DEFAULTS);
    let stop = settings.finish(config).unwrap_err();
    assert_eq!(stop.exit_code(), 0);
    let text = stop.to_string();
    for expected in [
        "Usage: orders [COMMAND]",
        "migrate      applies the migrations and exits",
        "--kafka-brokers, KAFKA_BROKERS\n      the brokers: host:port, comma-separated [default: localhost:9092]",
        "DATABASE_URL, or DATABASE_URL_FILE: secret, so no flag\n      this service's own database [required]",
        "--otel-exporter-otlp-endpoint, OTEL_EXPORTER_OTLP_ENDPOINT",
        "[default: no export]",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
}

#[test]
fn what_is_no_unicode_is_a_fault_where_it_matters() {
    let bytes = || OsString::from_vec(vec![0xff]);
    let environment = [("OTHER".to_owned(), bytes()), ("WRITE_QUEUE".to_owned(), bytes())];
    let mut settings = Settings::new("orders", "Orders.", COMMANDS, [], environment);
    let limits = LimitsConfig::read(&mut settings, &DEFAULTS);
    assert!(limits.is_none());
    let Err(Stop::Faults(faults)) = settings.finish(limits) else { unreachable!("WRITE_QUEUE is no text") };
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].name, "WRITE_QUEUE");
}

#[test]
fn spans_go_where_the_exporter_and_its_own_variables_say() {
    let otlp = |url: &str| Some(ExportTo::Otlp(url.parse().unwrap()));
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
    let export = |environment: &[(&str, &str)]| read(&[], environment).unwrap().telemetry.export;
    assert_eq!(export(&[("TRACING_EXPORTER", "otlp")]), None);
    assert_eq!(export(&[endpoint]), otlp("http://collector:4317"));
    let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317");
    assert_eq!(export(&[of_traces]), otlp("http://traces:4317"));
    assert_eq!(export(&[endpoint, of_traces]), otlp("http://traces:4317"));
    #[cfg(feature = "jaeger-agent")]
    {
        let agent = |host: &str, port| Some(ExportTo::JaegerAgent { host: host.to_owned(), port });
        let chosen = ("TRACING_EXPORTER", "jaeger-agent");
        assert_eq!(export(&[chosen, endpoint]), agent("127.0.0.1", 6831));
        let elsewhere = [("OTEL_EXPORTER_JAEGER_AGENT_HOST", "jaeger"), ("OTEL_EXPORTER_JAEGER_AGENT_PORT", "16831")];
        assert_eq!(export(&[&elsewhere[..], &[chosen]].concat()), agent("jaeger", 16831));
        assert_eq!(faults(read(&[], &[("OTEL_EXPORTER_JAEGER_AGENT_PORT", "0")])), ["OTEL_EXPORTER_JAEGER_AGENT_PORT"]);
    }
    #[cfg(not(feature = "jaeger-agent"))]
    {
        let stop = read(&[], &[("TRACING_EXPORTER", "jaeger-agent"), endpoint]).unwrap_err();
        assert_eq!(stop.exit_code(), 64);
        assert!(stop.to_string().contains("cargo feature \"jaeger-agent\""), "{stop}");
    }
}
