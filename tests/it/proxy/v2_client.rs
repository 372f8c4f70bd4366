//! Requests for Comfy API v2, and its streams of events.

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::recordings::{TXT2IMG, workflow};
use crate::support::test_relay::response;
use crate::support::wait::{PATIENCE, wait_until};

/// Stands between the parts of a form.
const BOUNDARY: &str = "between-parts";

/// A client of the API at an address, with a token or without one.
pub(super) struct V2Client {
    api: String,
    token: Option<String>,
    client: Client,
}

/// The form of an upload, in the order in which its parts are sent.
pub(super) struct UploadForm {
    fields: Vec<(String, String)>,
    /// Its name and its content.
    file: Option<(String, Vec<u8>)>,
    is_file_first: bool,
}

/// A stream of events.
pub(super) struct EventReader {
    response: Response,
    /// The part of the next event that is there.
    text: String,
}

impl V2Client {
    pub(super) fn new(api: &str) -> Self {
        Self {
            api: api.to_owned(),
            token: None,
            client: Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub(super) fn with_token(api: &str, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..Self::new(api)
        }
    }

    /// A request for a path, which begins behind `/api/v2` unless it is a whole URL.
    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = match path {
            path if path.starts_with("http") => path.to_owned(),
            path if path.starts_with("/api/") => format!("{}{path}", self.api),
            path => format!("{}/api/v2{path}", self.api),
        };
        let request = self.client.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        response(self.request(Method::GET, path)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        response(self.request(Method::POST, path).json(body)).await
    }

    /// Uploads a file, under a key or without one.
    pub(super) async fn upload(&self, form: &UploadForm, key: Option<&str>) -> (u16, Value) {
        let form_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let mut request = self.request(Method::POST, "/assets").body(form.body());
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        response(request.header("Content-Type", form_type)).await
    }

    /// Submits a body under a key. Returns whether the answer is that to an earlier request, too.
    pub(super) async fn submit_as(&self, key: &str, body: &Value) -> (u16, Value, bool) {
        let request = self.request(Method::POST, "/jobs").json(body);
        let answer = request.header("Idempotency-Key", key).send().await.unwrap();
        let status = answer.status().as_u16();
        let is_replayed = answer.headers().contains_key("idempotency-replayed");
        (status, answer.json().await.unwrap(), is_replayed)
    }

    /// Submits the workflow of a recording. Returns the job.
    pub(super) async fn submit(&self) -> Value {
        let body = json!({"workflow": workflow(TXT2IMG).await});
        let (status, job) = self.post("/jobs", &body).await;
        assert_eq!(status, 201, "{job}");
        job
    }

    /// A job once it has this status.
    pub(super) async fn wait_for(&self, job: &Value, status: &str) -> Value {
        let path = job["urls"]["self"].as_str().unwrap();
        wait_until("the job has the status", async || {
            self.get(path).await.1["status"] == status
        })
        .await;
        self.get(path).await.1
    }

    /// The events of a job.
    pub(super) async fn follow(&self, job: &Value) -> EventReader {
        let path = job["urls"]["events"].as_str().unwrap();
        let response = self.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        EventReader {
            response,
            text: String::new(),
        }
    }
}

impl UploadForm {
    /// A picture of this name.
    pub(super) fn new(file_path: &str, content: &[u8]) -> Self {
        let form = Self::without_file(file_path);
        Self {
            file: Some((file_path.to_owned(), content.to_vec())),
            ..form
        }
    }

    pub(super) fn without_file(file_path: &str) -> Self {
        let field = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        Self {
            fields: vec![
                field("content_type", "image/png"),
                field("file_path", file_path),
            ],
            file: None,
            is_file_first: false,
        }
    }

    pub(super) fn file_first(file_path: &str, content: &[u8]) -> Self {
        Self {
            is_file_first: true,
            ..Self::new(file_path, content)
        }
    }

    pub(super) fn with(mut self, name: &str, text: &str) -> Self {
        self.fields.push((name.to_owned(), text.to_owned()));
        self
    }

    fn body(&self) -> Vec<u8> {
        let part = |head: &str, content: &[u8]| {
            let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n");
            [head.as_bytes(), content, b"\r\n"].concat()
        };
        let fields = self.fields.iter();
        let mut parts: Vec<Vec<u8>> = fields
            .map(|(name, text)| part(&format!("name=\"{name}\""), text.as_bytes()))
            .collect();
        if let Some((name, content)) = &self.file {
            let place = if self.is_file_first { 0 } else { parts.len() };
            let head = format!("name=\"file\"; filename=\"{name}\"");
            parts.insert(place, part(&head, content));
        }
        parts.push(format!("--{BOUNDARY}--\r\n").into_bytes());
        parts.concat()
    }
}

impl EventReader {
    /// The next event: its name and its data. `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                // A comment is no event.
                if let Some(lines) = event.strip_prefix("event: ") {
                    let (name, data) = lines.split_once("\ndata: ").unwrap();
                    return Some((name.to_owned(), serde_json::from_str(data).unwrap()));
                }
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("nothing comes").unwrap()?;
            self.text += std::str::from_utf8(&chunk).unwrap();
        }
    }

    /// All events up to the end of the stream.
    pub(super) async fn rest(mut self) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// The data of the events of this name.
pub(super) fn data<'a>(events: &'a [(String, Value)], name: &str) -> Vec<&'a Value> {
    let named = events.iter().filter(|(event, _)| event == name);
    named.map(|(_, data)| data).collect()
}
