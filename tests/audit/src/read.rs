//! Reading everything there is. In: the sources. Out: what was seen.

use anyhow::Result;

use crate::{Sources, case::Seen};

/// All of it, once.
pub(crate) async fn everything(_sources: &Sources) -> Result<Seen> {
    Ok(Seen::default())
}
