//! [`OpenConnection`]: a connection to PostgreSQL as the driver has it.

use tokio_postgres::tls::TlsStream;
use tokio_postgres::{Client, Connection, Socket};
use tokio_util::task::AbortOnDropHandle;

/// An open connection, as the driver has it.
pub(super) struct OpenConnection {
    pub(super) client: Client,
    /// Reads and writes the socket. Ends with the connection.
    pub(super) io: AbortOnDropHandle<()>,
    /// Whether a pooler may give each transaction another server process: nothing outlives a transaction.
    pub(super) is_pooled: bool,
}

impl OpenConnection {
    /// Spawns the task that reads and writes the socket.
    pub(super) fn spawn<S>((client, connection): (Client, Connection<Socket, S>)) -> Self
    where
        S: TlsStream + Unpin + Send + 'static,
    {
        let io = tokio::spawn(async move {
            if let Err(error) = connection.await {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "lost a connection to PostgreSQL");
            }
        });
        Self {
            client,
            io: AbortOnDropHandle::new(io),
            is_pooled: false,
        }
    }
}
