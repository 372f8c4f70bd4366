//! [`VariablePort`]: a port in a variable that Kubernetes may set to something else.

/// Stands before the port in the variable that Kubernetes sets for a service of this name, such as `REDIS_PORT` for `redis`.
const KUBERNETES: &str = "tcp://";

/// A port; `None` for a text that Kubernetes has put there.
#[derive(Debug, Clone, Copy)]
pub(super) struct VariablePort(pub(super) Option<u16>);

pub(super) fn parse_port(text: &str) -> Result<VariablePort, &'static str> {
    if text.starts_with(KUBERNETES) {
        return Ok(VariablePort(None));
    }
    let port = text
        .parse()
        .map_err(|_| "expected a number from 1 to 65535")?;
    Ok(VariablePort(Some(port)))
}
