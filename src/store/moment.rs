//! [`Moment`]: times as columns of both databases.

use std::io::Write;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, SqlType, Text};
use diesel::sqlite::{Sqlite, SqliteValue};
use jiff::Timestamp;

use super::rows::timestamp;

/// 2000-01-01T00:00:00Z in microseconds since 1970: PostgreSQL counts from there.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The SQL type of a time: `timestamptz` in PostgreSQL, in SQLite a text that sorts by time.
#[derive(Debug, Clone, Copy, SqlType, diesel::query_builder::QueryId)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185))]
#[diesel(sqlite_type(name = "Text"))]
pub struct MomentSql;

/// A time in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = MomentSql)]
pub(super) struct Moment(pub(super) Timestamp);

impl ToSql<MomentSql, Pg> for Moment {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        // In milliseconds, as batches store them: a job is not older than itself.
        let micros = self.0.as_millisecond() * 1_000 - POSTGRES_EPOCH;
        out.write_all(&micros.to_be_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<MomentSql, Sqlite> for Moment {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(timestamp(self.0));
        Ok(IsNull::No)
    }
}

impl FromSql<MomentSql, Pg> for Moment {
    /// Times outside of the range, such as `infinity`, are the last or the first that there is.
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let micros = <i64 as FromSql<BigInt, Pg>>::from_sql(value)?;
        let time = Timestamp::from_microsecond(micros.saturating_add(POSTGRES_EPOCH));
        Ok(Self(time.unwrap_or(if micros < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })))
    }
}

impl FromSql<MomentSql, Sqlite> for Moment {
    /// A text that is not a time, written by another program, is the first moment of 1970.
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Sqlite>>::from_sql(value)?;
        Ok(Self(text.parse().unwrap_or_default()))
    }
}
