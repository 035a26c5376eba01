//! JSON that is none or says something else, and everything else that HTTP allows.

use anyhow::Result;
use stories::{
    Refused,
    stranger::{Sent, UNKNOWN_PATHS, WRONG_VERBS},
};
use tonic::Code;

use super::{Case, Town, invalid, malformed, malformed_message, refused, too_large};

impl Town<'_> {
    pub(super) fn http(&self) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        let mut add = |verb: &'static str, path: String, body: &[u8], back: Option<Refused>| {
            let name = format!("{verb} {path:.100} {:.60}", String::from_utf8_lossy(body));
            let sent = Sent::Http { verb, path, body: body.to_vec() };
            cases.push(Case::new(&name, self.by("alice", "", sent)?, back));
            anyhow::Ok(())
        };
        let deep = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let (tickets, ticket) = ("/api/tickets".to_owned(), format!("/api/tickets/{}", self.ticket));

        // No JSON, or of other types.
        for body in [
            &b"{"[..],
            b"[]",
            b"\"title\"",
            b"{\"title\":",
            b"{\"title\": {}}",
            b"{\"title\": [\"a\"]}",
            b"{\"title\": \"a\"}x",
            b"{\"title\": \"\xff\xfe\"}",
            b"{\"title\": \"\xed\xa0\x80\"}",
            b"{\"quantity\": 1.5}",
            b"{\"quantity\": 3000000000}",
            b"{\"quantity\": \"many\"}",
            b"{\"price\": 1}",
            b"{\"price\": {\"currencyCode\": \"USD\", \"minorUnits\": 0.1}}",
            b"{\"price\": {\"currencyCode\": \"USD\", \"minorUnits\": 1e30}}",
            b"{\"price\": {\"currencyCode\": \"USD\", \"minorUnits\": \"9223372036854775808\"}}",
            b"{\"price\": {\"currencyCode\": 840}}",
            b"{\"requestId\": {}}",
            b"title=a&quantity=1",
            b"<ticket/>",
            b"\x00\x00\x00\x00\x00",
            deep("[", "]", 30_000).as_bytes(),
            deep("{\"price\":", "}", 5_000).as_bytes(),
            deep("{\"colour\":[", "]}", 5_000).as_bytes(),
        ] {
            add("POST", tickets.clone(), body, Some(malformed()))?;
        }
        add("POST", tickets.clone(), &vec![b' '; 64 * 1024 + 6], Some(too_large()))?;
        add(
            "POST",
            tickets.clone(),
            format!("{{\"title\": \"{}\"}}", "a".repeat(1 << 20)).as_bytes(),
            Some(too_large()),
        )?;
        // Of a key that comes twice, the last holds.
        add(
            "POST",
            tickets.clone(),
            br#"{"quantity": 0, "title": "a", "title": ""}"#,
            Some(invalid(&["title", "price", "quantity"])),
        )?;
        add(
            "POST",
            tickets.clone(),
            br#"{"quantity": 0, "title": "", "title": "a"}"#,
            Some(invalid(&["price", "quantity"])),
        )?;
        add("POST", tickets.clone(), b"", Some(invalid(&["title", "price"])))?;
        add("POST", tickets.clone(), b"null", Some(malformed()))?;

        // A body that says what its path says already, be it the same, be it spelled otherwise.
        for id in [&self.ticket, &self.dear] {
            for body in [
                format!("{{\"id\": \"{id}\", \"title\": \"Opera\"}}"),
                format!("{{\"title\": \"Opera\", \"\\u0069d\": \"{id}\"}}"),
            ] {
                add("PATCH", ticket.clone(), body.as_bytes(), Some(malformed()))?;
                add("PUT", ticket.clone(), body.as_bytes(), Some(malformed()))?;
                add("POST", format!("{ticket}:withdraw"), body.as_bytes(), Some(malformed()))?;
            }
        }
        // Null is nothing, and elsewhere than at the top it says nothing.
        add("PATCH", ticket.clone(), br#"{"id": null, "title": ""}"#, Some(invalid(&["title"])))?;
        add("PATCH", ticket.clone(), br#"{"title": "", "colour": {"id": 1}}"#, Some(invalid(&["title"])))?;

        // Queries that nobody knows, or of other types, or that say nothing.
        for query in [
            "pages=1",
            "page_size=many",
            "page_size=1.5",
            "page_size=99999999999",
            "status=SOLD",
            "price.minor_units=1",
            "pageSize",
            "pageSize=",
            "page_size&status=TICKET_STATUS_LISTED",
            "status=TICKET_STATUS_LISTED&pageSize",
            "=1",
        ] {
            add("GET", format!("/api/tickets?{query}"), b"", Some(malformed()))?;
        }

        // Paths that there aren't, and verbs that a path doesn't have.
        let unknown_path = || Some(refused(Code::NotFound, "UNKNOWN_PATH"));
        for path in UNKNOWN_PATHS {
            add("GET", (*path).to_owned(), b"", unknown_path())?;
        }
        let wrong_verb = || Some(refused(Code::Unimplemented, "UNKNOWN_METHOD"));
        for (verb, path, _) in WRONG_VERBS {
            add(verb, (*path).to_owned(), b"", wrong_verb())?;
        }
        for verb in ["BREW", "get"] {
            add(verb, tickets.clone(), b"", Some(malformed()))?;
        }
        // Nor is a path what only looks like one.
        for path in ["/api/tickets/%2F", "/api/orders/..%2fpayments", "/api/tickets/..%5c", "/api/tickets/%00"] {
            add("GET", path.to_owned(), b"", Some(malformed()))?;
        }
        for path in ["/api/tickets/%2e%2e", "/api/orders/../../etc/passwd"] {
            add("GET", path.to_owned(), b"", unknown_path())?;
        }
        add("GET", "/api/tickets/%C3%28".to_owned(), b"", Some(malformed_message()))?;
        for id in ["%20", "%zz", "%F0%9F%8E%AB", "'%20OR%201=1--", &"a".repeat(8000)] {
            add("GET", format!("/api/tickets/{id}"), b"", Some(invalid(&["id"])))?;
        }
        Ok(cases)
    }
}
