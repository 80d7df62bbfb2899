//! The temporal join: which version of another table's row each row of an enriched table shows.
//!
//! A row shows the version that was current at the position of its own last change, else the first one
//! after it. So at a row's change its version is looked up once, in the current rows and what the
//! epoch has done to them; after that only rows without one have to be watched. Older versions
//! are kept as long as a row shows them. What memory does not know about the time before (after a
//! restart, and for rows that ttl had dropped) is asked of the landing table: [`super::StateStores::doubtful`].

mod joined_view;
mod version_chains;
mod versions;

pub(in crate::state) use joined_view::JoinedView;
pub(in crate::state) use version_chains::{RowsBefore, VersionChains};
