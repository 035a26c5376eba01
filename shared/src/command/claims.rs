//! Request ids: the same one is done once. Claimed within the transaction, before anything is decided, so that it holds
//! across replicas.

use std::collections::HashMap;

use diesel::{
    QueryResult,
    sql_types::{Array, Binary, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::db::{Fixed, Prepared};

/// A caller's word that this is one and the same request, however often it comes.
#[derive(Clone, Debug)]
pub struct Claim {
    key: Key,
    content: [u8; 32],
    resource: Uuid,
}

impl Claim {
    pub(super) fn resource(&self) -> Uuid {
        self.resource
    }
}

/// What a request id is unique by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    caller: String,
    rpc: &'static str,
    id: Uuid,
}

impl Claim {
    /// `content` is whatever tells two requests apart, in any encoding that gives the same bytes for the same request;
    /// `resource` is the id of what this command would create.
    pub fn new(caller: &str, rpc: &'static str, id: Uuid, content: &[u8], resource: Uuid) -> Self {
        Self { key: Key { caller: caller.to_owned(), rpc, id }, content: Sha256::digest(content).into(), resource }
    }
}

/// Whose request an id turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// This command's: decide it.
    First,
    /// An earlier one's with the same content, which made this resource.
    Again { resource: Uuid },
    /// An earlier one's with another content.
    Reused { resource: Uuid },
}

/// The claims of a batch, as the database knows them.
#[derive(Default)]
pub(super) struct Claims(HashMap<Key, Known>);

struct Known {
    content: Vec<u8>,
    resource: Uuid,
}

impl Claims {
    /// Whose request this is.
    pub(super) fn of(&self, claim: &Claim) -> Claimed {
        match self.0.get(&claim.key) {
            Some(known) if known.resource == claim.resource => Claimed::First,
            Some(known) if known.content == claim.content => Claimed::Again { resource: known.resource },
            Some(known) => Claimed::Reused { resource: known.resource },
            // The insert before the look-up either wrote it or met it.
            None => Claimed::First,
        }
    }
}

struct Insert;
impl Fixed for Insert {
    // Sorted, so that transactions that share ids wait for each other in one order; and where a batch has an id twice,
    // the first of them, which is decided first, is the one that has it.
    const SQL: &'static str = "\
        INSERT INTO request_ids (caller, rpc, request_id, content, resource) \
        SELECT caller, rpc, request_id, content, resource FROM unnest($1, $2, $3, $4, $5) \
            WITH ORDINALITY AS new (caller, rpc, request_id, content, resource, place) \
        ORDER BY caller, rpc, request_id, place \
        ON CONFLICT DO NOTHING";
}

struct Find;
impl Fixed for Find {
    const SQL: &'static str = "\
        SELECT known.caller, known.rpc, known.request_id, known.content, known.resource \
        FROM unnest($1, $2, $3) AS mine (caller, rpc, request_id) \
        JOIN request_ids known USING (caller, rpc, request_id)";
}

struct Forget;
impl Fixed for Forget {
    const SQL: &'static str = "\
        DELETE FROM request_ids known USING unnest($1, $2, $3) AS mine (caller, rpc, request_id) \
        WHERE (known.caller, known.rpc, known.request_id) = (mine.caller, mine.rpc, mine.request_id)";
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    caller: String,
    #[diesel(sql_type = Text)]
    rpc: String,
    #[diesel(sql_type = SqlUuid)]
    request_id: Uuid,
    #[diesel(sql_type = Binary)]
    content: Vec<u8>,
    #[diesel(sql_type = SqlUuid)]
    resource: Uuid,
}

struct Columns<'a> {
    callers: Vec<&'a str>,
    rpcs: Vec<&'a str>,
    ids: Vec<Uuid>,
}

fn columns<'a>(claims: &[&'a Claim]) -> Columns<'a> {
    Columns {
        callers: claims.iter().map(|claim| claim.key.caller.as_str()).collect(),
        rpcs: claims.iter().map(|claim| claim.key.rpc).collect(),
        ids: claims.iter().map(|claim| claim.key.id).collect(),
    }
}

/// Claims what nobody has claimed before, waiting for transactions that are about to; and says whose each is.
pub(super) async fn claim(conn: &AsyncPgConnection, claims: &[&Claim]) -> QueryResult<Claims> {
    if claims.is_empty() {
        return Ok(Claims::default());
    }
    let Columns { callers, rpcs, ids } = columns(claims);
    let insert = async {
        let contents: Vec<&[u8]> = claims.iter().map(|claim| &claim.content[..]).collect();
        let resources: Vec<Uuid> = claims.iter().map(|claim| claim.resource).collect();
        Prepared::<Insert, _>::with(|sql| {
            sql.bind::<Array<Text>, _>(&callers)
                .bind::<Array<Text>, _>(&rpcs)
                .bind::<Array<SqlUuid>, _>(&ids)
                .bind::<Array<Binary>, _>(contents)
                .bind::<Array<SqlUuid>, _>(resources)
        })
        .execute(&mut &*conn)
        .await
    };
    let find = async {
        Prepared::<Find, _>::with(|sql| {
            sql.bind::<Array<Text>, _>(&callers).bind::<Array<Text>, _>(&rpcs).bind::<Array<SqlUuid>, _>(&ids)
        })
        .load::<Row>(&mut &*conn)
        .await
    };
    // A statement of its own behind the insert: it sees what the insert had to wait for.
    let (_, rows) = futures_util::try_join!(insert, find)?;
    let rpc_named = |name: &str| claims.iter().map(|claim| claim.key.rpc).find(|rpc| *rpc == name);
    let known = rows.into_iter().filter_map(|row| {
        let key = Key { caller: row.caller, rpc: rpc_named(&row.rpc)?, id: row.request_id };
        Some((key, Known { content: row.content, resource: row.resource }))
    });
    Ok(Claims(known.collect()))
}

/// Takes back claims of commands that were refused: refusals aren't remembered.
pub(super) async fn forget(conn: &AsyncPgConnection, claims: &[&Claim]) -> QueryResult<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let Columns { callers, rpcs, ids } = columns(claims);
    Prepared::<Forget, _>::with(|sql| {
        sql.bind::<Array<Text>, _>(callers).bind::<Array<Text>, _>(rpcs).bind::<Array<SqlUuid>, _>(ids)
    })
    .execute(&mut &*conn)
    .await?;
    Ok(())
}
