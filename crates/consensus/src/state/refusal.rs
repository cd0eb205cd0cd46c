//! What the parts of the state refuse, as the answer to an entry.

use synod_lease::GrantError;

use super::apply::Failure;

impl From<GrantError> for Failure {
    fn from(error: GrantError) -> Self {
        Self::Refused(error.into())
    }
}
