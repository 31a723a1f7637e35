use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

use crate::secret::Secret;

/// Answers that are remembered. One that is out is computed anew.
const REMEMBERED: usize = 100;

/// The bcrypt hash compared against for users that do not exist, so that the time of an answer does not tell who does. It costs
/// as much as a hash of the default cost.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// Checks passwords against bcrypt hashes. Comparing is slow by design, so answers are remembered (by a digest), and comparisons
/// run one at a time on a blocking thread, so that wrong passwords cannot take every core.
#[derive(Debug, Default)]
pub(super) struct Authenticator {
    known: Mutex<HashMap<[u8; 32], bool>>,
    turn: tokio::sync::Mutex<()>,
}

impl Authenticator {
    /// Whether the request names a user and the right password.
    pub(super) async fn allows(&self, users: &BTreeMap<String, Secret>, headers: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(headers) else { return false };
        let hash = users.get(&user);
        let compared = hash.map_or(NOBODY, Secret::expose).to_owned();
        let mut key = Vec::new();
        for part in [user.as_bytes(), compared.as_bytes(), password.as_bytes()] {
            key.extend_from_slice(&part.len().to_le_bytes());
            key.extend_from_slice(part);
        }
        let key: [u8; 32] = digest(&SHA256, &key).as_ref().try_into().unwrap_or_default();
        if let Some(known) = self.known.lock().get(&key) {
            return *known && hash.is_some();
        }
        let _turn = self.turn.lock().await;
        let compare = tokio::task::spawn_blocking(move || bcrypt::verify(password, &compared).unwrap_or(false));
        let allowed = compare.await.unwrap_or(false) && hash.is_some();
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED
            && let Some(any) = known.keys().next().copied()
        {
            known.remove(&any);
        }
        known.insert(key, allowed);
        allowed
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
