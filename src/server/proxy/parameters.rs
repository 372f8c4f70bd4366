//! The parameters of a request for ComfyUI's API: those that are not known are left out, as ComfyUI does.

use std::str::FromStr;

use hyper::Request;

use crate::server::error::ApiError;
use crate::server::request::bad_query;

/// The parameters of a query.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The first value of a parameter that is not empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let named = self.0.iter().filter(|(key, _)| key == name);
        let mut values = named.map(|(_, value)| value.as_str());
        values.find(|value| !value.is_empty())
    }

    /// The number that a parameter has.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let number = self.value(name).map(str::parse);
        number
            .transpose()
            .map_err(|_| bad_query(format!("{name} is a number")))
    }

    /// Those that have none of these names.
    pub(super) fn others(self, names: &[&str]) -> Vec<(String, String)> {
        let mut pairs = self.0;
        pairs.retain(|(name, _)| !names.contains(&name.as_str()));
        pairs
    }
}
