//! The fuzzer's seeds, each once: what it has found before is found by `make test`.

use std::{fs, path::Path};

use inputs::TARGETS;

#[test]
fn every_seed_of_every_target_does_no_harm() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
        let seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(seeds.len() >= 5, "{name} has few seeds: {seeds:?}");
        for seed in seeds {
            target(&fs::read(seed).unwrap());
        }
    }
}
