use serde_json::json;

use super::{MAX_ANSWER, Rest, RestError, success};

impl Rest {
    /// Has the server unload its models and free its memory before its next prompt.
    pub async fn free_memory(&self) -> Result<(), RestError> {
        let call = "POST /free";
        let body = json!({"unload_models": true, "free_memory": true});
        let request = self.client.post(self.at("free")).json(&body);
        let (status, _) = self.send(call, request, MAX_ANSWER).await?;
        success(call, status)
    }
}
