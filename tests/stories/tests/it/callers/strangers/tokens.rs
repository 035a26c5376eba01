//! Whose word isn't to be taken.

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use local::keys::{Claims, Signer};
use serde_json::{Value, json};
use stories::{
    Refused,
    stranger::{Call, Sent},
};
use tonic::Code;

use super::{Case, Town, refused};

impl Town<'_> {
    pub(super) fn tokens(&self) -> Result<Vec<Case>> {
        let (missing, invalid) = (|| unauthenticated("TOKEN_MISSING"), || unauthenticated("TOKEN_INVALID"));
        let ask = |name: &str, headers: &[&[u8]], back: Refused| {
            let headers = headers.iter().map(|value| ("authorization", value.to_vec())).collect();
            let sent = Sent::Message(json!({"id": self.order}));
            Case::new(name, Call { rpc: "GetOrder", headers, sent }, Some(back))
        };
        let bearer = |token: &str| format!("Bearer {token}").into_bytes();
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let sound = self.signer.token("bob", &[])?;
        let (header, rest) = sound.split_once('.').context("a token")?;
        let (payload, signature) = rest.split_once('.').context("a token")?;
        let of_header = |header: Value, signature: &str| bearer(&format!("{}.{payload}.{signature}", part(&header)));
        let operator = serde_json::to_value(Claims::new("bob", &["operator"]))?;
        let hmac = |secret: &[u8]| {
            let header = Header { kid: Some(self.signer.kid().to_owned()), ..Header::new(Algorithm::HS256) };
            jsonwebtoken::encode(&header, &Claims::new("bob", &[]), &EncodingKey::from_secret(secret))
        };
        let jwk = serde_json::to_value(self.signer.jwks())?["keys"][0].clone();
        let public = jwk["x"].as_str().context("a public key")?;
        let claims = |name: &str, value: Value| {
            let mut claims = serde_json::to_value(Claims::new("bob", &[]))?;
            claims[name] = value;
            self.bearer(&claims)
        };
        let now = Claims::new("bob", &[]).iat;

        let mut cases = vec![
            ask("no token", &[], missing()),
            ask("an empty authorization", &[b""], missing()),
            ask("a scheme without a token", &[b"Bearer"], missing()),
            ask("another scheme", &[b"Basic Ym9iOnNlc2FtZQ=="], missing()),
            ask("a token without a scheme", &[sound.as_bytes()], missing()),
            ask("no JWT", &[b"Bearer sesame"], invalid()),
            ask("a token that is cut off", &[&bearer(&sound[..sound.len() - 8])], invalid()),
            ask("a token with something behind it", &[&bearer(&format!("{sound}.x"))], invalid()),
            ask("two authorizations", &[&bearer(&sound), &bearer(&sound)], invalid()),
            ask("two authorizations, the first no token", &[b"Bearer x", &bearer(&sound)], invalid()),
            ask("an expired token", &[&claims("exp", json!(now - 3600))?], unauthenticated("TOKEN_EXPIRED")),
            ask("a token of tomorrow", &[&claims("nbf", json!(now + 3600))?], invalid()),
            ask("a token for others", &[&claims("aud", json!("others"))?], invalid()),
            ask("a token by another issuer", &[&claims("iss", json!("elsewhere"))?], invalid()),
            ask("a token without an end", &[&claims("exp", Value::Null)?], invalid()),
            ask("a token for nobody", &[&claims("sub", json!(""))?], invalid()),
            ask("a user with control characters", &[&claims("sub", json!("bob\u{0}"))?], invalid()),
            ask("a user of 256 characters", &[&claims("sub", json!("b".repeat(256)))?], invalid()),
            ask("roles that are no list", &[&claims("roles", json!("operator"))?], invalid()),
            ask("alg none", &[&of_header(json!({"alg": "none"}), "")], invalid()),
            ask("alg none, with a kid", &[&of_header(json!({"alg": "none", "kid": self.signer.kid()}), "")], invalid()),
            ask("alg none, with a signature", &[&of_header(json!({"alg": "none"}), signature)], invalid()),
            ask("no alg", &[&of_header(json!({"kid": self.signer.kid()}), signature)], invalid()),
            ask("a key of the token's own", &[&of_header(json!({"alg": "EdDSA", "jwk": jwk}), signature)], invalid()),
            ask("an unknown kid", &[&of_header(json!({"alg": "EdDSA", "kid": "unknown"}), signature)], invalid()),
            ask(
                "more roles than were signed",
                &[&bearer(&format!("{header}.{}.{signature}", part(&operator)))],
                invalid(),
            ),
            ask("another's key", &[&bearer(&Signer::generate()?.token("bob", &[])?)], invalid()),
        ];
        for (name, secret) in [
            ("HMAC, the public key as its secret", URL_SAFE_NO_PAD.decode(public)?),
            ("HMAC, the public key's text as its secret", public.as_bytes().to_vec()),
            ("HMAC, the whole JWK as its secret", jwk.to_string().into_bytes()),
            ("HMAC, nothing as its secret", Vec::new()),
        ] {
            cases.push(ask(name, &[&bearer(&hmac(&secret)?)], invalid()));
        }
        Ok(cases)
    }
}

fn unauthenticated(reason: &str) -> Refused {
    refused(Code::Unauthenticated, reason)
}
