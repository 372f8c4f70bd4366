//! Sends a picture into the server's folder of inputs.

use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use uuid::Uuid;

use super::{MAX_ANSWER, Rest, RestError, SUBMIT_TIMEOUT, invalid_response, json_of, success};

/// What the server calls the file.
#[derive(Deserialize)]
struct UploadedFile {
    name: String,
}

impl Rest {
    /// Sends a picture under a name of letters, digits and dots. A file of this name is replaced.
    ///
    /// # Errors
    ///
    /// If the server does not take it, or gives it another name.
    pub async fn upload_input(&self, name: &str, content: &[u8]) -> Result<(), RestError> {
        let call = "POST /upload/image";
        let boundary = Uuid::new_v4().simple().to_string();
        let request = self.client.post(self.at("upload/image"));
        let request = request.header(
            CONTENT_TYPE,
            format!("multipart/form-data; boundary={boundary}"),
        );
        // A picture has megabytes, and the server's event loop can stand still.
        let request = request.timeout(SUBMIT_TIMEOUT);
        let request = request.body(form(&boundary, name, content));
        let (status, answer) = self.send(call, request, MAX_ANSWER).await?;
        success(call, status)?;
        let uploaded: UploadedFile = json_of(call, &answer)?;
        if uploaded.name != name {
            let why = format!("the file {name} was called {:?}", uploaded.name);
            return Err(invalid_response(call, &why));
        }
        Ok(())
    }
}

/// The form with a file (RFC 7578).
fn form(boundary: &str, name: &str, content: &[u8]) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        )
    };
    let head = field("type", "input") + &field("overwrite", "true");
    let file = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{name}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let end = format!("\r\n--{boundary}--\r\n");
    [head.as_bytes(), file.as_bytes(), content, end.as_bytes()].concat()
}
