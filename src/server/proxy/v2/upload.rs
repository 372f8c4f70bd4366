//! `POST /api/v2/assets`: a file that graphs can load.

use std::error::Error;
use std::io;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use http_body_util::BodyDataStream;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use multer::{Constraints, Multipart, SizeLimit};
use uuid::{Builder, Uuid};

use super::asset::{V2Asset, blake_hash};
use super::form_body::FormBody;
use super::input_file::{self, Destination, OTHER_HASH, check_path};
use crate::auth::Scope;
use crate::relay::RelayError;
use crate::server::api::idempotency;
use crate::server::error::ApiError;
use crate::server::proxy::paced_body::PacedBody;
use crate::server::response::{self, Body};
use crate::server::security::Caller;
use crate::server::state::ServerState;
use crate::store::StoredAsset;

/// The longest text of a form, in bytes.
const MAX_TEXT: u64 = 1_000;

/// What a form says of its file.
#[derive(Default)]
struct FileNote {
    content_type: Option<String>,
    file_path: Option<String>,
    expected_hash: Option<String>,
}

/// What a file is to be called.
pub(super) struct NewAsset {
    pub(super) id: String,
    pub(super) content_type: String,
    pub(super) file_path: String,
    pub(super) expected_hash: Option<String>,
    /// There is one with this id, whose file a server has lost.
    pub(super) replaces: bool,
}

/// Takes a file in, which is sent to all servers while it comes. The same file with the same `Idempotency-Key` is the same asset.
pub(super) async fn upload(
    state: &ServerState,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let permissions = caller.authorize(Scope::Submit, None)?;
    let key = idempotency::key(request.headers(), &permissions)?;
    let form = request.headers().get(CONTENT_TYPE);
    let form = form.and_then(|form| form.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(form).map_err(|error| bad_form(&error))?;
    let body = PacedBody::new(request.into_body(), "request", state.config.body_timeout);
    let size = SizeLimit::new()
        .per_field(MAX_TEXT)
        .for_field("file", u64::MAX);
    let constraints = Constraints::new().size_limit(size);
    let (body, file_place) = FormBody::new(BodyDataStream::new(body));
    let mut form = Multipart::with_constraints(body, boundary, constraints);
    let mut note = FileNote::default();
    while let Some(field) = form.next_field().await.map_err(|error| bad_form(&error))? {
        let place = match field.name() {
            Some("content_type") => &mut note.content_type,
            Some("file_path") => &mut note.file_path,
            Some("expected_hash") => &mut note.expected_hash,
            Some("file") => {
                file_place.reach();
                let new = note.checked(key.as_deref())?;
                let content = field.map_err(io::Error::other);
                return store(state, caller, new, key.is_some(), content).await;
            }
            // Tags and how long to keep a file change nothing here.
            _ => continue,
        };
        *place = Some(field.text().await.map_err(|error| bad_form(&error))?);
    }
    Err(bad_upload("the form has no file"))
}

impl FileNote {
    /// What the form says before its file, if that is enough.
    fn checked(self, key: Option<&str>) -> Result<NewAsset, ApiError> {
        let (Some(content_type), Some(file_path)) = (self.content_type, self.file_path) else {
            let message = "content_type and file_path are to come before the file";
            return Err(bad_upload(message));
        };
        check_path(&file_path)?;
        if !content_type.contains('/') || content_type.contains(char::is_control) {
            return Err(bad_upload("content_type is a media type such as image/png"));
        }
        let expected_hash = self.expected_hash.as_deref().map(blake_hash).transpose()?;
        Ok(NewAsset {
            id: asset_id(key),
            content_type,
            file_path,
            expected_hash,
            replaces: false,
        })
    }
}

/// The id of a new asset: the same for the same key.
fn asset_id(key: Option<&str>) -> String {
    let bytes = key.and_then(|digest| {
        let digits = digest.get(..32)?;
        u128::from_str_radix(digits, 16).ok()
    });
    let id = bytes.map(|it| Builder::from_random_bytes(it.to_be_bytes()).into_uuid());
    id.unwrap_or_else(Uuid::new_v4).to_string()
}

async fn store(
    state: &ServerState,
    caller: &Caller,
    new: NewAsset,
    has_key: bool,
    content: impl Stream<Item = io::Result<Bytes>> + Send,
) -> Result<Response<Body>, ApiError> {
    let address = &caller.public_address;
    if has_key && let Some(before) = state.relay.asset(&new.id).await? {
        let asset = repeat(state, before, new, content).await?;
        let asset = V2Asset::uploaded(state, asset, address).created(false);
        return Ok(response::json(StatusCode::OK, &asset));
    }
    let (asset, is_new) = take_in(state, new, content).await?;
    let status = if is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let asset = V2Asset::uploaded(state, asset, address).created(is_new);
    Ok(response::json(status, &asset))
}

/// Takes in a file that was taken in before under the same key. It is sent once more if a server has lost it.
async fn repeat(
    state: &ServerState,
    before: StoredAsset,
    mut new: NewAsset,
    content: impl Stream<Item = io::Result<Bytes>> + Send,
) -> Result<StoredAsset, ApiError> {
    let conflict = || RelayError::IdempotencyConflict.into();
    if (&before.content_type, &before.file_path) != (&new.content_type, &new.file_path) {
        return Err(conflict());
    }
    if !state.relay.lacks_file(&before).await {
        let (hash, _) = input_file::hash(content).await?;
        return (hash == before.hash).then_some(before).ok_or_else(conflict);
    }
    (new.replaces, new.expected_hash) = (true, Some(before.hash));
    match take_in(state, new, content).await {
        Ok((asset, _)) => Ok(asset),
        Err(error) if error.code() == OTHER_HASH => Err(conflict()),
        Err(error) => Err(error),
    }
}

/// Sends a file to all servers, and records it. Returns whether there was none with this content before.
pub(super) async fn take_in(
    state: &ServerState,
    new: NewAsset,
    content: impl Stream<Item = io::Result<Bytes>> + Send,
) -> Result<(StoredAsset, bool), ApiError> {
    let destination = Destination {
        filename: Destination::name(&new.file_path),
        expected_hash: new.expected_hash.as_deref(),
    };
    let sent = input_file::send(state, destination, content).await?;
    let is_new = state.relay.asset_with_hash(&sent.hash).await?.is_none();
    let asset = StoredAsset {
        id: new.id,
        hash: sent.hash,
        size_bytes: i64::try_from(sent.size).unwrap_or(i64::MAX),
        content_type: new.content_type,
        file_path: new.file_path,
        filename: sent.filename,
        created_at: Timestamp::now().as_millisecond(),
    };
    if new.replaces {
        state.relay.remove_asset(&asset.id).await?;
    }
    state.relay.add_asset(&asset).await?;
    // Another request with the same key may have been faster.
    match state.relay.asset(&asset.id).await? {
        Some(first) if said_of(&first) != said_of(&asset) => {
            Err(RelayError::IdempotencyConflict.into())
        }
        Some(first) => Ok((first, is_new)),
        None => Ok((asset, is_new)),
    }
}

/// What a client says of a file, and its hash.
fn said_of(asset: &StoredAsset) -> (&str, &str, &str) {
    (&asset.hash, &asset.content_type, &asset.file_path)
}

fn bad_form(error: &multer::Error) -> ApiError {
    let mut message = format!("the body is not the expected form (multipart/form-data): {error}");
    if let Some(cause) = error.source() {
        message += &format!(": {cause}");
    }
    bad_upload(&message)
}

fn bad_upload(message: &str) -> ApiError {
    ApiError::bad_request("bad_upload", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_is_the_same_asset() {
        let digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let id = asset_id(Some(digest));
        assert_eq!(id, asset_id(Some(digest)));
        assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 4);
        assert_ne!(asset_id(None), asset_id(None));
    }
}
