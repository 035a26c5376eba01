//! Pages of lists (AIP-158): newest first, by id, stable under inserts.
//!
//! A page's token holds the last id of the page before it, and a checksum over that id, the list, its filters, and who
//! asks. The checksum tells mistakes: a token of another list, other filters, another caller, or no token at all. It
//! keeps no secret, and needs no key: every list filters by its caller anyway.

use std::fmt::Display;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{id::Id, user::UserId};

const ID_BYTES: usize = 16;
const SUM_BYTES: usize = 16;

/// One list as one caller sees it, through these filters.
#[derive(Clone, Debug)]
pub struct Listing {
    /// All that was fed so far.
    digest: Sha256,
}

/// A page to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many items, 1 to 200.
    pub size: i64,
    /// Only items older than this one, that is with a smaller id; `None` from the newest on.
    pub after: Option<Uuid>,
}

impl Page {
    /// How many rows to fetch: one more than the page holds tells whether another follows.
    pub fn fetch(&self) -> i64 {
        self.size + 1
    }
}

impl Listing {
    /// A list (its RPC's full name) as this caller sees it.
    pub fn new(list: &'static str, caller: &UserId) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"page token, version 1");
        Self { digest }.with(list).with(caller.as_str())
    }

    /// The same list through one more filter, in an order that stays the same from call to call.
    #[must_use]
    pub fn filter(self, field: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(field).with(&value.to_string()),
            None => self,
        }
    }

    /// The token of the page after the one that ends with this id.
    pub fn token(&self, last: Uuid) -> String {
        let mut bytes = [0; ID_BYTES + SUM_BYTES];
        let (id, sum) = bytes.split_at_mut(ID_BYTES);
        id.copy_from_slice(last.as_bytes());
        sum.copy_from_slice(&self.sum(last));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The id that a token holds; `None` if it is no token of this listing.
    pub fn read(&self, token: &str) -> Option<Uuid> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (id, sum) = bytes.split_at_checked(ID_BYTES)?;
        let id = Uuid::from_slice(id).ok()?;
        (sum == self.sum(id)).then_some(id)
    }

    /// Cuts rows, fetched by [`Page::fetch`], to the page, and answers its `next_page_token`: empty on the last page.
    pub fn cut<T, K>(&self, page: &Page, rows: &mut Vec<T>, id: impl FnOnce(&T) -> Id<K>) -> String {
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        if rows.len() <= size {
            return String::new();
        }
        rows.truncate(size);
        rows.last().map(|last| self.token(id(last).uuid())).unwrap_or_default()
    }

    /// Feeds a text so that no two sequences of texts are fed alike.
    fn with(mut self, text: &str) -> Self {
        self.digest.update((text.len() as u64).to_be_bytes());
        self.digest.update(text);
        self
    }

    fn sum(&self, id: Uuid) -> [u8; SUM_BYTES] {
        let digest = self.digest.clone().chain_update(id.as_bytes()).finalize();
        let mut sum = [0; SUM_BYTES];
        sum.copy_from_slice(&digest[..SUM_BYTES]);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(list: &'static str, user: &str, status: Option<&str>, order: Option<&str>) -> Listing {
        let user = UserId::from_stored(user);
        Listing::new(list, &user).filter("status", status).filter("order_id", order)
    }

    #[test]
    fn a_token_reads_back_in_its_own_listing_and_in_no_other() {
        let id = Uuid::now_v7();
        let own = ("ListOrders", "alice", Some("CREATED"), None);
        let token = listing(own.0, own.1, own.2, own.3).token(id);
        for (list, user, status, order, reads) in [
            ("ListOrders", "alice", Some("CREATED"), None, true),
            ("ListTickets", "alice", Some("CREATED"), None, false),
            ("ListOrders", "bob", Some("CREATED"), None, false),
            ("ListOrders", "alice", Some("COMPLETED"), None, false),
            ("ListOrders", "alice", None, None, false),
            ("ListOrders", "alice", None, Some("CREATED"), false),
            ("ListOrders", "alice", Some("CREATED"), Some("1"), false),
            // The same bytes, cut elsewhere.
            ("ListOrdersa", "lice", Some("CREATED"), None, false),
        ] {
            let read = listing(list, user, status, order).read(&token);
            assert_eq!(read, reads.then_some(id), "{list} {user} {status:?} {order:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        let listing = listing("ListOrders", "alice", None, None);
        let token = listing.token(Uuid::now_v7());
        let mut forged = URL_SAFE_NO_PAD.decode(&token).unwrap();
        forged[15] ^= 1;
        for text in [
            "",
            "x",
            "no token",
            &token[1..],
            &format!("{token}AAAA"),
            &format!("{token}="),
            &URL_SAFE_NO_PAD.encode(forged),
            &URL_SAFE_NO_PAD.encode(Uuid::now_v7().as_bytes()),
        ] {
            assert_eq!(listing.read(text), None, "{text:?}");
        }
        assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{token}");
    }

    #[test]
    fn a_page_is_cut_where_the_next_begins() {
        enum Thing {}
        let listing = listing("ListThings", "alice", None, None);
        let page = Page { size: 2, after: None };
        for (rows, kept, more) in [(0, 0, false), (2, 2, false), (3, 2, true)] {
            let mut rows: Vec<_> = (0..rows).map(|_| Id::<Thing>::new()).collect();
            let token = listing.cut(&page, &mut rows, |id| *id);
            assert_eq!(rows.len(), kept);
            assert_eq!(listing.read(&token), more.then(|| rows[1].uuid()));
        }
    }
}
