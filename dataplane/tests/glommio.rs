//! The toy tiles on glommio executors give the same answers as on spinning threads.
#![cfg(feature = "glommio")]

mod toy;

use std::time::Duration;

use dataplane::driver::glommio::{self, GlommioOptions};
use dataplane::driver::{Crew, StartError};
use dataplane::stem::Stem;
use dataplane::time::HostClock;
use dataplane::topo::BuildOptions;
use toy::*;

#[test]
fn all_jobs_are_answered_on_glommio_executors() {
    let clock = HostClock::start();
    let plan = topology(2, 2, 2).plan().expect("sound");
    let mut crew = Crew::new(plan.build(&BuildOptions::default()).expect("built"), clock.clone());
    crew.seat(Ask::new).and_then(|c| c.seat(Owner::new)).expect("seated");
    crew.seat(|_| Sink { frags: 0, sum: 0, oldest_ns: 0 }).expect("seated");
    let mut source = crew.external("source", 0).expect("source");
    let (loads, machine) = crew.loads().expect("complete");
    let running = match glommio::start(loads, machine, &GlommioOptions::default()) {
        Ok(running) => running,
        Err(StartError::Thread { said, .. }) => {
            eprintln!("not run: this host gives no glommio executor ({said})");
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let jobs = 20_000;
    for n in 0..jobs {
        let out = &mut source.outs[(n % 2) as usize];
        while out.publish(n / 2 % 2, UNBORN, &job(n)).is_err() {
            std::thread::yield_now();
        }
    }
    let stopped = running.stop(Duration::from_secs(30));
    assert!(stopped.drained, "the machine did not come to rest");
    let sink = stopped.stem::<Stem<Sink, HostClock>>("sink:0").expect("the sink came back").tile();
    assert_eq!((sink.frags, sink.sum), (jobs, (0..jobs).sum()));
}
