//! Bugs planted for the simulator: each stands where it could really be made, and the simulator must find it.
//!
//! In builds that are not tests every question is answered "no" by a constant, and the compiler removes it.

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plant {
    /// Packets that were heard before are taken again.
    ReplayUnchecked,
    /// Tags are not compared.
    TagUnchecked,
    /// Buckets are never empty.
    PacerDeaf,
    /// A new session ends the old ones at once.
    RekeyCutsOff,
    /// Requests for repair are not sent.
    NacksUnsent,
    /// Memory of objects that are over is not given back.
    MemoryKept,
    /// Objects begin whether there is room for them or not.
    RoomUnchecked,
    /// Reading the settings again ends every link.
    ReloadCutsOff,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Plant>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in this thread, or none.
#[cfg(test)]
pub(crate) fn plant(plant: Option<Plant>) {
    PLANTED.set(plant);
}

/// Whether this bug is planted.
#[cfg(test)]
pub(crate) fn is(plant: Plant) -> bool {
    PLANTED.get() == Some(plant)
}

/// Whether this bug is planted.
#[cfg(not(test))]
pub(crate) const fn is(_: Plant) -> bool {
    false
}
