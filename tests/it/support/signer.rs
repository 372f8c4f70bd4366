//! Real keys of each kind, and files that hold them.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use comfy_relay::config::{AccessConfig, KeySource, ServerConfig};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

/// A key pair that signs tokens.
pub(crate) struct Signer {
    pub(crate) id: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    pub(crate) public_pem: String,
    jwk: Jwk,
}

impl Signer {
    pub(crate) fn rsa(id: &'static str) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self::new(id, Algorithm::RS256, key, &pair)
    }

    pub(crate) fn ec(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self::new(id, Algorithm::ES256, key, &pair)
    }

    pub(crate) fn ed(id: &'static str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self::new(id, Algorithm::EdDSA, key, &pair)
    }

    fn new(id: &'static str, algorithm: Algorithm, key: EncodingKey, pair: &KeyPair) -> Self {
        let mut jwk = match algorithm {
            // The library knows no private keys that hold their public key, as these do.
            Algorithm::EdDSA => {
                let x = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key_raw());
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x});
                serde_json::from_value(jwk).unwrap()
            }
            _ => Jwk::from_encoding_key(&key, algorithm).unwrap(),
        };
        jwk.common.key_id = Some(id.to_owned());
        Self {
            id,
            algorithm,
            key,
            public_pem: pair.public_key_pem(),
            jwk,
        }
    }

    /// The public key, as it stands in the file.
    pub(crate) fn jwk(&self) -> Jwk {
        self.jwk.clone()
    }

    pub(crate) fn header(&self) -> Header {
        Header {
            kid: Some(self.id.to_owned()),
            ..Header::new(self.algorithm)
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        encode(&self.header(), claims, &self.key).unwrap()
    }
}

/// Writes a file with public keys, in one step, as it should be done.
pub(crate) fn write_keys(file: &Path, keys: &[Jwk]) {
    let text = json!({"keys": keys}).to_string();
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, file).unwrap();
}

/// Settings under which tokens are checked with the keys in a file.
pub(crate) fn guarded_by(file: &Path) -> ServerConfig {
    ServerConfig {
        access: AccessConfig {
            keys: Some(KeySource::File(file.to_owned())),
            ..AccessConfig::default()
        },
        ..ServerConfig::default()
    }
}
