//! Compiles every proto of the project, without protoc, and keeps the encoded descriptor set beside the code.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "how Cargo and build scripts talk")]

use std::{env, error::Error, fs, path::PathBuf};

use protox::Compiler;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = vec![
        // What errors carry must be describable wherever answers are transcoded.
        PathBuf::from("google/rpc/error_details.proto"),
        PathBuf::from("google/rpc/status.proto"),
        PathBuf::from("ticketing/type/v1/money.proto"),
    ];
    for service in ["tickets", "orders", "payments", "expiration"] {
        for file in ["service.proto", "events.proto"] {
            files.push(PathBuf::from(format!("ticketing/{service}/v1/{file}")));
        }
    }
    println!("cargo:rerun-if-changed=proto");

    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The compiler's own encoding: prost's types know no options of others, and would lose the HTTP annotations.
    fs::write(out.join("descriptors.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        // Ours, so that what can't be decoded is the caller's fault and not ours.
        .codec_path("crate::codec::Codec")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
