//! Users and roles, as the etcd v3 API has them: who makes a request, and whether they may.
//!
//! Two halves. [`AuthState`] is replicated state: users, roles, permissions, and whether they are
//! enforced. It changes only when entries of the log are applied, and is the same on every member.
//! Everything else a member keeps for itself: [`Tokens`] that clients show, [`Passwords`] that it
//! found right. [`Auth`] is both for those who serve requests.
//!
//! The host, which knows the log and the keyspace, does this:
//! - it keeps the rows that [`AuthState::apply`] returns, with the entry that made them, and gives
//!   them back to [`AuthState::load`]; after each batch with changes it calls [`Auth::publish`],
//!   and after a snapshot was installed [`Auth::reload`];
//! - it passes the [`Effect`] of each command to [`Tokens::follow`];
//! - it stamps a command with the caller's [`Identity`], or as a member's own
//!   ([`Origin`]), and calls the `check_` function of the command's kind when it applies it: an
//!   identity of an earlier auth revision is refused there, whatever happened between;
//! - it calls [`Auth::admit`] for every call before it does anything, with what [`requirement`]
//!   says of its method.
//!
//! Nothing of this costs anything while users are not enforced: [`Auth::is_enabled`] is one load.
//!
//! The crate never decides what a request does, never proposes anything, and writes neither a
//! password nor a token to the log or to its messages.

mod auth;
mod check;
mod error;
mod identity;
mod password;
mod recent;
mod request;
mod requirement;
mod state;
mod token;

pub use auth::{Auth, AuthConfig, LoginError};
pub use error::{AuthError, CheckError, MAX_KEY_BYTES};
pub use identity::{Credentials, Identity, Origin};
pub use password::{DEFAULT_BCRYPT_COST, PasswordError, Passwords, bcrypt_cost};
pub use request::may_log_in;
pub use requirement::{Requirement, requirement};
pub use state::{AuthState, Changed, DamagedRow, Effect, ROW_PREFIX, Row};
pub use token::{DEFAULT_TOKEN_TTL, Issued, NewToken, TokenConfigError, TokenError, Tokens};
