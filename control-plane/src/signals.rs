//! SIGINT and SIGTERM: a flag, so that whoever works can come to a good end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Sets the flag it gives back when the process is interrupted; a second interrupt ends the process at once.
pub fn interrupted() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let registered =
            signal_hook::flag::register_conditional_shutdown(signal, 130, flag.clone())
                .and_then(|_| signal_hook::flag::register(signal, flag.clone()));
        if let Err(error) = registered {
            eprintln!(
                "signal {signal} cannot be handled ({error}); it will end the process at once"
            );
        }
    }
    // A write beyond a limit of the process (`ulimit -f`) is an error like others, not the end.
    if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()) {
        eprintln!(
            "SIGXFSZ cannot be handled ({error}); a write beyond `ulimit -f` ends the process"
        );
    }
    flag
}
