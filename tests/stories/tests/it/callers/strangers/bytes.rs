//! Bytes that are no message, or that are badly framed or compressed.

use std::io::Write as _;

use anyhow::{Result, ensure};
use flate2::{Compression, write::GzEncoder};
use stories::{Refused, stranger::Sent};
use tonic::Code;

use super::{Case, Town, malformed_message, refused, too_large};

impl Town<'_> {
    /// What is no message.
    pub(super) fn bytes(&self) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for rpc in ["CreateTicket", "UpdateTicket", "CreateOrder", "CreatePayment", "GetOrder", "WatchOrder"] {
            for (what, bytes) in [
                ("no field", b"\xff\xff\xff".to_vec()),
                ("field 0", b"\x02\x01a".to_vec()),
                ("a length beyond the end", b"\x0a\x05ab".to_vec()),
                ("a length of almost 2 to the 64", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a".to_vec()),
                ("a text that is no UTF-8", b"\x0a\x02\xff\xfe".to_vec()),
                ("half a surrogate pair", b"\x0a\x03\xed\xa0\x80".to_vec()),
                ("a number where a text belongs", b"\x08\x01".to_vec()),
                ("a number without an end", [&b"\x10"[..], &[0xff; 11]].concat()),
                ("groups in groups", vec![0x7b; 5000]),
                ("the end of a group that never began", b"\x7c".to_vec()),
                ("noise", (0..200u8).map(|byte| byte.wrapping_mul(167) | 0x80).collect()),
            ] {
                let call = self.by("bob", rpc, Sent::Bytes(bytes))?;
                cases.push(Case::new(&format!("{rpc}: {what}"), call, Some(malformed_message())));
            }
        }
        let large = self.by("bob", "CreateTicket", Sent::Bytes(vec![b' '; 64 * 1024 + 1]))?;
        cases.push(Case::new("a message of more than 64 KiB", large, Some(too_large())));
        Ok(cases)
    }

    /// What is badly framed, or compressed.
    pub(super) fn frames(&self) -> Result<Vec<Case>> {
        let title = |length: usize| {
            let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
            [&[0][..], &length, b"\x0a\x01a"].concat()
        };
        let bomb = compressed(&vec![0; 50_000_000])?;
        ensure!(bomb.len() < 64 * 1024, "it has to come through: {}", bomb.len());
        let flagged = |flag: u8, message: &[u8]| -> Result<Vec<u8>> {
            Ok([&[flag][..], &u32::try_from(message.len())?.to_be_bytes(), message].concat())
        };
        let compressed_by = || refused(Code::Unimplemented, "UNIMPLEMENTED");
        let case = |name: &str, bytes: Vec<u8>, back: Refused| {
            anyhow::Ok(Case::new(name, self.by("bob", "CreateTicket", Sent::Frame(bytes))?, Some(back)))
        };
        Ok(vec![
            case("no frame at all", Vec::new(), malformed_message())?,
            case("half a frame's head", vec![0, 0, 0], malformed_message())?,
            case("a frame that is cut off", title(100), malformed_message())?,
            case("a frame of 4 GiB", title(usize::MAX), too_large())?,
            case("an unknown flag", flagged(7, b"\x0a\x01a")?, malformed_message())?,
            case("compressed, but nobody says how", flagged(1, &compressed(b"\x0a\x01a")?)?, malformed_message())?,
            // No service takes what is compressed, so that nothing ever explodes.
            case("a bomb", flagged(1, &bomb)?, compressed_by())?.with("grpc-encoding", "gzip"),
            case("a bomb by what nobody knows", flagged(1, &bomb)?, compressed_by())?.with("grpc-encoding", "lzma"),
            case("no gzip", flagged(1, b"no gzip at all")?, compressed_by())?.with("grpc-encoding", "gzip"),
            case("a bomb, cut off", flagged(1, &bomb[..99])?, compressed_by())?.with("grpc-encoding", "gzip"),
        ])
    }
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}
