//! One authenticated link to one peer.
//!
//! In: packets and the time. Out: frames that are authentic, new, and whose sender is known. Everything that must hold
//! before a byte is believed is here, and nothing here knows what an object is.
//!
//! | file | question |
//! | --- | --- |
//! | `cookie` | does the caller hear us at the address it claims? |
//! | `gate` | how many handshakes may strangers cost us? |
//! | `handshake` | does it hold the key that was configured? |
//! | `key_table` | which link does a packet belong to? |
//! | `calls` | when do we call, and how often again? |
//! | `session`, `mac`, `replay` | is this packet authentic, and new? |
//! | `loss`, `delay` | what does the path do to packets? |
//! | `pacer`, `guard` | when may the next one go? |
//! | `strikes` | when is it enough? |
//! | `peer_link` | all of that for one peer |

mod calls;
mod cookie;
mod delay;
mod entropy;
mod gate;
mod guard;
mod handshake;
mod key_table;
mod loss;
mod mac;
mod pacer;
mod peer_link;
mod replay;
mod session;
mod strikes;

pub use calls::{CALL_US, CALL_US_MAX, Calls, QUICK_CALLS, Stage};
pub use cookie::{COOKIE_TURN_US, CookieJar};
pub use delay::{BASE_SPAN_US, OneWay, RoundTrip};
pub use entropy::Entropy;
pub use gate::{HELLO_BURST, HELLO_BURST_ALL, HELLO_EVERY_ALL_US, HELLO_EVERY_US, HelloGate};
pub use guard::{CUT, DELAY_RISE_US, FLOOR_OF_CAPACITY, Guard, LOSS_OVER_BUDGET};
pub use handshake::{Called, Calling, Greeting, Keys, SessionKeys, call, called};
pub use key_table::KeyTable;
pub use loss::{LOSS_WINDOW, LossEstimate, REORDER_MAX};
pub use mac::{Direction, MacKey};
pub use pacer::{BURST_PACKETS, BURST_US, HEADERS_LEN, TokenBucket};
pub use peer_link::{
    DEAD_US, FEEDBACK_US, KEEPALIVE_US, LOSS_UNKNOWN, Link, LinkState, Rekey, SESSIONS_MAX,
    SUSPECT_US, Ticked, Turn,
};
pub use replay::{REPLAY_WINDOW, ReplayWindow};
pub use session::{REKEY_PACKETS, REKEY_US, RETIRE_US, Session};
pub use strikes::{QUARANTINE_US, QUARANTINE_US_MAX, STRIKES_MAX, Strikes};
