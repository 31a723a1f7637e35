//! Signed assertions that tokens are asked for with (RFC 7523), and what else is signed with RSA keys.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

use super::config::OAuth2;

/// How long an assertion holds, in seconds.
const LIFETIME: i64 = 3600;

/// A JSON Web Token of these settings, valid for an hour, signed with an RSA key in PEM.
pub(super) fn sign(oauth2: &OAuth2, key: &str) -> Result<String, String> {
    let algorithm = RsaAlgorithm::of_name(&oauth2.signature_algorithm);
    let mut header = json!({"alg": algorithm.name(), "typ": "JWT"});
    if !oauth2.client_certificate_key_id.is_empty() {
        header["kid"] = Value::from(oauth2.client_certificate_key_id.as_str());
    }
    let claims = Value::Object(claims(oauth2, model::now_millis() / 1000));
    json_web_token(&header, &claims, algorithm, key).map_err(|e| format!("client certificate key: {e}"))
}

/// How RSA signatures are made: PKCS#1 v1.5 with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RsaAlgorithm {
    /// SHA-256.
    Rs256,
    /// SHA-384.
    Rs384,
    /// SHA-512.
    Rs512,
}

impl RsaAlgorithm {
    fn of_name(name: &str) -> Self {
        match name {
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            _ => Self::Rs256,
        }
    }

    /// Its name in tokens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    fn encoding(self) -> &'static dyn RsaEncoding {
        match self {
            Self::Rs256 => &RSA_PKCS1_SHA256,
            Self::Rs384 => &RSA_PKCS1_SHA384,
            Self::Rs512 => &RSA_PKCS1_SHA512,
        }
    }
}

/// A JSON Web Token with this header, which has to name the algorithm, signed with an RSA key in PEM.
///
/// # Errors
/// When the key is none, or cannot sign.
pub fn json_web_token(header: &Value, claims: &Value, algorithm: RsaAlgorithm, key: &str) -> Result<String, String> {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = rsa_signature(key, algorithm, signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The signature of a message by an RSA key in PEM, PKCS#1 or PKCS#8 and not encrypted.
///
/// # Errors
/// When the key is none, or cannot sign.
pub fn rsa_signature(key: &str, algorithm: RsaAlgorithm, message: &[u8]) -> Result<Vec<u8>, String> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| e.to_string())?;
    let pair = match &key {
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
        _ => return Err("not an RSA key".to_owned()),
    };
    let pair = pair.map_err(|e| e.to_string())?;
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(algorithm.encoding(), &SystemRandom::new(), message, &mut signature)
        .map_err(|_| "the key does not sign".to_owned())?;
    Ok(signature)
}

fn claims(oauth2: &OAuth2, now: i64) -> Map<String, Value> {
    let or = |value: &str, default: &str| if value.is_empty() { default.to_owned() } else { value.to_owned() };
    let mut claims: Map<String, Value> = oauth2.claims.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    claims.insert("iss".to_owned(), or(&oauth2.iss, &oauth2.client_id).into());
    claims.entry("sub").or_insert_with(|| oauth2.client_id.clone().into());
    claims.insert("aud".to_owned(), or(&oauth2.audience, &oauth2.token_url).into());
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), (now + LIFETIME).into());
    if !oauth2.scopes.is_empty() {
        claims.insert("scope".to_owned(), oauth2.scopes.join(" ").into());
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_have_their_defaults() {
        let mut oauth2 = OAuth2 { client_id: "me".into(), token_url: "http://t".into(), ..OAuth2::default() };
        oauth2.claims.insert("tenant".into(), "x".into());
        let plain = Value::Object(claims(&oauth2, 100));
        assert_eq!(plain, json!({"tenant": "x", "iss": "me", "sub": "me", "aud": "http://t", "iat": 100, "exp": 3700}));
        oauth2.iss = "someone".into();
        oauth2.audience = "them".into();
        oauth2.scopes = vec!["a".into(), "b".into()];
        let full = Value::Object(claims(&oauth2, 0));
        assert_eq!((&full["iss"], &full["aud"], &full["scope"]), (&json!("someone"), &json!("them"), &json!("a b")));
    }

    #[test]
    fn a_wrong_key_is_named() {
        let oauth2 = OAuth2::default();
        assert!(sign(&oauth2, "nonsense").unwrap_err().starts_with("client certificate key"));
        let elliptic = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert!(sign(&oauth2, &elliptic).unwrap_err().starts_with("client certificate key"));
    }
}
