//! Compiles the counter's protos as the contracts crate compiles the project's.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "how Cargo and build scripts talk")]

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(
        ["counter/v1/service.proto", "counter/v1/events.proto", "counter/v1/commands.proto"],
        ["proto"],
    )?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.binpb"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().codec_path("contracts::codec::Codec").compile_fds(descriptors)?;
    Ok(())
}
