//! Where things are in a checkout: its root, and the state of `make run` below `.local/`. In: the working directory and the port offset.
//! Out: paths, and the lock that one running stack holds.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::postgres;

/// A checkout of this project.
#[derive(Debug, Clone)]
pub struct Checkout {
    root: PathBuf,
}

impl Checkout {
    /// The checkout that the working directory is in.
    ///
    /// # Errors
    /// When it is in none.
    pub fn here() -> Result<Self> {
        let here = std::env::current_dir()?;
        let root = here.ancestors().find(|dir| dir.join("deploy/local/pom.xml").exists());
        Ok(Self { root: root.context("not in a checkout of the project: run it at its root")?.to_owned() })
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the keys are: one issuer, whichever the ports.
    pub fn keys(&self) -> PathBuf {
        self.local().join("keys")
    }

    /// The state of the stack with this port offset. Each offset has its own, so two stacks can run side by side.
    pub fn state(&self, port_offset: u16) -> PathBuf {
        if port_offset == 0 { self.local() } else { self.local().join(format!("offset-{port_offset}")) }
    }

    /// Makes the state's folder and claims it for this process, until the lock is dropped.
    ///
    /// # Errors
    /// When another stack runs on it.
    pub fn lock(&self, port_offset: u16) -> Result<File> {
        let dir = self.state(port_offset);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        claim(&dir)
    }

    /// Removes all state, of all offsets, the keys too.
    ///
    /// # Errors
    /// When a stack runs on it, or it can't be removed.
    pub fn clean(&self) -> Result<()> {
        let local = self.local();
        let Ok(entries) = fs::read_dir(&local) else { return Ok(()) };
        let folders = entries.flatten().map(|entry| entry.path()).chain([local.clone()]);
        let states: Vec<_> = folders.filter(|dir| dir.join(LOCK).exists()).collect();
        // Held until all is removed.
        let _locks = states.iter().map(|dir| claim(dir)).collect::<Result<Vec<_>>>()?;
        for state in states {
            postgres::free_shared_memory(&state.join("postgres"));
        }
        fs::remove_dir_all(&local).with_context(|| format!("removing {}", local.display()))
    }

    fn local(&self) -> PathBuf {
        self.root.join(".local")
    }
}

const LOCK: &str = "lock";

fn claim(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = open.with_context(|| format!("opening {}", path.display()))?;
    if file.try_lock().is_err() {
        let mut pid = String::new();
        // Whether or not it can be read: the claim has failed.
        let _ = file.read_to_string(&mut pid);
        bail!("a stack runs on {} already (pid {})", dir.display(), pid.trim());
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}
