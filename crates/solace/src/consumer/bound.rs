//! The flow that is bound now.

use std::sync::{Arc, PoisonError, RwLock};

/// The flow that is bound now, for those who acknowledge, with its number.
///
/// The library delivers from the moment it has sent the bind, which may be before the call that
/// makes the flow has returned here. Making and publishing are therefore one step: an
/// acknowledgement of such a message waits for its flow. Were it skipped, the message would stay
/// unacknowledged for as long as the flow lives, and enough of them stop the queue.
pub(super) struct Bound<F>(Arc<RwLock<Option<Generation<F>>>>);

/// A flow and its number.
type Generation<F> = (u32, Arc<F>);

impl<F> Bound<F> {
    /// Waits while a flow is being made.
    pub(super) fn get(&self) -> Option<Generation<F>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a flow and lets it be found, in one step for everybody who looks.
    ///
    /// # Errors
    /// Those of `make`; then no flow is bound.
    pub(super) fn publish<E>(
        &self,
        number: u32,
        make: impl FnOnce() -> Result<F, E>,
    ) -> Result<(), E> {
        let mut bound = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *bound = None;
        *bound = Some((number, Arc::new(make()?)));
        Ok(())
    }

    pub(super) fn take(&self) -> Option<Generation<F>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<F> Default for Bound<F> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<F> Clone for Bound<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Looks for the flow on a thread of its own, which has started when this returns.
    fn look(bound: &Bound<&'static str>) -> thread::JoinHandle<Option<u32>> {
        let (bound, started) = (bound.clone(), Arc::new(std::sync::Barrier::new(2)));
        let starting = Arc::clone(&started);
        let looking = thread::spawn(move || {
            starting.wait();
            bound.get().map(|(number, _)| number)
        });
        started.wait();
        looking
    }

    #[test]
    fn who_acknowledges_while_the_flow_is_being_made_finds_it() {
        let bound = Bound::default();
        let mut looking = None;
        let make = || {
            // What the library does: a message is delivered and acknowledged before `make` ends.
            looking = Some(look(&bound));
            Ok::<_, ()>("flow")
        };
        bound.publish(7, make).unwrap();
        assert_eq!(looking.unwrap().join().unwrap(), Some(7));
    }

    #[test]
    fn a_flow_that_cannot_be_made_leaves_none() {
        let bound = Bound::default();
        bound.publish(1, || Ok::<_, ()>("flow")).unwrap();
        assert_eq!(bound.publish(2, || Err::<&str, _>("refused")), Err("refused"));
        assert!(bound.get().is_none());
    }
}
