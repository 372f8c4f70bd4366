//! [`Names`]: what the relay's tables are called in a database.
//!
//! They are declared and written as tables of the schema `comfy_relay`. Before a query runs, that name is replaced by
//! the configured schema (PostgreSQL) or by the prefix `comfy_relay_` (SQLite). So every query names its tables in
//! full: it does not depend on a search path, which another session behind a pooler may have changed.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::pg::{Pg, PgMetadataLookup, PgTypeMetadata};
use diesel::query_builder::bind_collector::RawBytesBindCollector;
use diesel::query_builder::{
    AsQuery, AstPass, CollectedQuery, MoveableBindCollector, Query, QueryBuilder, QueryFragment,
    QueryId,
};
use diesel::result::QueryResult;
use diesel::sqlite::Sqlite;

use crate::config::{Database, StoreConfig};

/// The prefix of the tables in SQLite.
const SQLITE_PREFIX: &str = "comfy_relay_";

/// The database's clock in milliseconds since 1970: all relays use the same. diesel has no word for it.
const POSTGRES_NOW: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)";
const SQLITE_NOW: &str = "CAST((julianday('now') - 2440587.5) * 86400000 AS bigint)";

/// The names of the relay's tables.
#[derive(Debug, Clone)]
pub(super) enum Names {
    /// Tables of this schema.
    Postgres(String),
    /// Tables with the prefix.
    Sqlite,
}

impl Names {
    pub(super) fn new(config: &StoreConfig) -> Self {
        match config.database {
            Database::Postgres(_) => Self::Postgres(config.schema.to_string()),
            Database::Sqlite(_) => Self::Sqlite,
        }
    }

    /// The schema of PostgreSQL; empty for SQLite, which has none.
    pub(super) fn schema(&self) -> &str {
        match self {
            Self::Postgres(schema) => schema,
            Self::Sqlite => "",
        }
    }

    /// The database's clock, as SQL.
    pub(super) fn now(&self) -> &'static str {
        match self {
            Self::Postgres(_) => POSTGRES_NOW,
            Self::Sqlite => SQLITE_NOW,
        }
    }

    /// SQL text in which the tables are called `comfy_relay.NAME`, with their real names.
    pub(super) fn text(&self, sql: &str) -> String {
        match self {
            Self::Postgres(schema) => sql.replace("comfy_relay.", &format!("\"{schema}\".")),
            Self::Sqlite => sql.replace("comfy_relay.", SQLITE_PREFIX),
        }
    }

    /// The same, where parameters appear in another order than that of their numbers.
    pub(super) fn numbered(&self, sql: &str) -> String {
        match self {
            Self::Postgres(_) => self.text(sql),
            // A number with a dollar is a name there.
            Self::Sqlite => self.text(sql).replace('$', "?"),
        }
    }

    /// SQL of diesel's query builder, with the real names.
    fn built(&self, sql: &str) -> String {
        match self {
            Self::Postgres(schema) => sql.replace("\"comfy_relay\".", &format!("\"{schema}\".")),
            Self::Sqlite => sql.replace("`comfy_relay`.`", &format!("`{SQLITE_PREFIX}")),
        }
    }

    /// The names for queries of one kind of database.
    pub(super) fn of<DB>(&self) -> NamesOf<'_, DB> {
        NamesOf(self, PhantomData)
    }
}

/// [`Names`] for queries of one kind of database.
#[derive(Debug)]
pub(super) struct NamesOf<'a, DB>(&'a Names, PhantomData<DB>);

impl<DB: NamedBackend> NamesOf<'_, DB> {
    /// A query that returns rows.
    pub(super) fn query<Q>(
        &self,
        query: Q,
    ) -> QueryResult<Named<<Q::Query as Query>::SqlType, DB::Binds>>
    where
        Q: AsQuery,
        Q::Query: QueryFragment<DB>,
    {
        self.named(&query.as_query(), true)
    }

    /// A query whose values decide how it is best run. PostgreSQL plans a prepared statement that it keeps without them.
    pub(super) fn query_by_values<Q>(
        &self,
        query: Q,
    ) -> QueryResult<Named<<Q::Query as Query>::SqlType, DB::Binds>>
    where
        Q: AsQuery,
        Q::Query: QueryFragment<DB>,
    {
        let is_kept = matches!(self.0, Names::Sqlite);
        self.named(&query.as_query(), is_kept)
    }

    /// A statement that returns none.
    pub(super) fn statement(
        &self,
        statement: &impl QueryFragment<DB>,
    ) -> QueryResult<Named<(), DB::Binds>> {
        self.named(statement, true)
    }

    /// With `is_kept`, the connection keeps the prepared statement.
    fn named<ST>(
        &self,
        query: &impl QueryFragment<DB>,
        is_kept: bool,
    ) -> QueryResult<Named<ST, DB::Binds>> {
        let sql = self.0.built(&DB::sql(query)?);
        let query = CollectedQuery::new(sql, is_kept, DB::binds(query)?);
        Ok(Named(query, PhantomData))
    }
}

/// A query with the real names of its tables, which returns rows of the type `ST`.
#[derive(Debug)]
pub(super) struct Named<ST, B>(CollectedQuery<B>, PhantomData<ST>);

impl<ST, B, DB> QueryFragment<DB> for Named<ST, B>
where
    DB: Backend,
    CollectedQuery<B>: QueryFragment<DB>,
{
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }
}

impl<ST, B> QueryId for Named<ST, B> {
    type QueryId = ();

    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST, B> Query for Named<ST, B> {
    type SqlType = ST;
}

/// A database whose queries can be taken apart into text and values.
pub(super) trait NamedBackend: Backend {
    /// The values of a query.
    type Binds;

    fn sql(query: &impl QueryFragment<Self>) -> QueryResult<String>;

    fn binds(query: &impl QueryFragment<Self>) -> QueryResult<Self::Binds>;
}

impl NamedBackend for Pg {
    type Binds = RawBytesBindCollector<Pg>;

    fn sql(query: &impl QueryFragment<Self>) -> QueryResult<String> {
        let mut builder = diesel::pg::PgQueryBuilder::default();
        query.to_sql(&mut builder, &Self)?;
        Ok(builder.finish())
    }

    fn binds(query: &impl QueryFragment<Self>) -> QueryResult<Self::Binds> {
        let mut binds = RawBytesBindCollector::new();
        query.collect_binds(&mut binds, &mut KnownTypes, &Self)?;
        Ok(binds)
    }
}

impl NamedBackend for Sqlite {
    type Binds =
        <<Self as Backend>::BindCollector<'static> as MoveableBindCollector<Self>>::BindData;

    fn sql(query: &impl QueryFragment<Self>) -> QueryResult<String> {
        let mut builder = diesel::sqlite::SqliteQueryBuilder::default();
        query.to_sql(&mut builder, &Self)?;
        Ok(builder.finish())
    }

    fn binds(query: &impl QueryFragment<Self>) -> QueryResult<Self::Binds> {
        let mut binds = <Self as Backend>::BindCollector::default();
        query.collect_binds(&mut binds, &mut (), &Self)?;
        Ok(binds.moveable())
    }
}

/// All types of the relay's columns have numbers that are known without a look into the catalogue.
struct KnownTypes;

impl PgMetadataLookup for KnownTypes {
    fn lookup_type(&mut self, _name: &str, _schema: Option<&str>) -> PgTypeMetadata {
        unreachable!("no column of the relay has a type of the database's own")
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;

    use super::*;
    use crate::store::schema::jobs;

    #[test]
    fn tables_have_their_real_names() {
        let query = jobs::table
            .select(jobs::seq)
            .filter(jobs::status.eq("comfy_relay"));
        let postgres = Names::Postgres("other".to_owned());
        let named = postgres.of::<Pg>().query(query).unwrap();
        assert_eq!(
            Pg::sql(&named).unwrap(),
            r#"SELECT "other"."jobs"."seq" FROM "other"."jobs" WHERE ("other"."jobs"."status" = $1)"#
        );
        let named = Names::Sqlite.of::<Sqlite>().query(query).unwrap();
        assert_eq!(
            Sqlite::sql(&named).unwrap(),
            "SELECT `comfy_relay_jobs`.`seq` FROM `comfy_relay_jobs` WHERE (`comfy_relay_jobs`.`status` = ?)"
        );
        assert_eq!(
            postgres.text("DELETE FROM comfy_relay.jobs"),
            "DELETE FROM \"other\".jobs"
        );
    }
}
