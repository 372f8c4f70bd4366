//! Files: `/view` finds the server that has one, `/upload` reaches all.

use hyper::body::Incoming;
use hyper::{Request, Response};

use super::parameters::Parameters;
use super::pass_through::{clean, forwarded};
use crate::relay::ViewedFile;
use crate::server::error::ApiError;
use crate::server::response::Body;
use crate::server::state::ServerState;

/// `GET /view`.
pub(super) async fn view(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let parameters = Parameters::of(&request);
    let text = |name: &str| parameters.value(name).unwrap_or_default().to_owned();
    let file = ViewedFile {
        filename: text("filename"),
        subfolder: text("subfolder"),
        r#type: parameters.value("type").unwrap_or("output").to_owned(),
    };
    let request = forwarded(state, request);
    clean(state, state.relay.view(&file, &request).await?)
}

/// `POST /upload/image` and `/upload/mask`.
pub(super) async fn upload(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    clean(state, state.relay.upload(forwarded(state, request)).await?)
}
