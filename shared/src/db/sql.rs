//! Statements that stay prepared.
//!
//! Diesel's `sql_query` and batch inserts are parsed and planned anew at every call, which small statements notice
//! most. A statement whose text never changes need not be.

use std::marker::PhantomData;

use diesel::{
    QueryResult,
    pg::Pg,
    query_builder::{AstPass, BoxedSqlQuery, Query, QueryFragment, QueryId, SqlQuery},
    sql_query,
    sql_types::Untyped,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// The text of a statement, known to the type: what its prepared form is remembered by.
pub trait Fixed: 'static {
    /// SQL, with `$1`, `$2`, … for the values bound.
    const SQL: &'static str;
}

/// A statement to bind values to. Boxed: a type for every value bound to a statement of a dozen is minutes of compiling.
pub type Bindable<'b> = BoxedSqlQuery<'b, Pg, SqlQuery>;

/// The statement `S` with its values bound.
pub struct Prepared<S, Q>(Q, PhantomData<fn() -> S>);

impl<'b, S: Fixed> Prepared<S, Bindable<'b>> {
    /// Binds the values, in the order of their numbers.
    pub fn with(bind: impl FnOnce(Bindable<'b>) -> Bindable<'b>) -> Self {
        Self(bind(sql_query(S::SQL).into_boxed()), PhantomData)
    }
}

impl<S: Fixed, Q: QueryFragment<Pg>> QueryFragment<Pg> for Prepared<S, Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        // The text is a constant of `S`, and `S` is the key it is cached by.
        Ok(true)
    }
}

impl<S: Fixed, Q> QueryId for Prepared<S, Q> {
    type QueryId = Prepared<S, ()>;

    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: Fixed, Q> Query for Prepared<S, Q> {
    type SqlType = Untyped;
}

/// Executes the statement `S`, whose values are of these rows, unless there are none. What it inserts is best taken apart in the
/// list of a SELECT (`SELECT unnest($1), unnest($2)`), row by row: in its FROM, the arrays are made into a table first.
///
/// # Errors
///
/// The statement fails.
pub async fn write_rows<'b, S: Fixed, R>(
    conn: &AsyncPgConnection,
    rows: &[R],
    bind: impl FnOnce(Bindable<'b>) -> Bindable<'b>,
) -> QueryResult<()> {
    if !rows.is_empty() {
        Prepared::<S, _>::with(bind).execute(&mut &*conn).await?;
    }
    Ok(())
}
