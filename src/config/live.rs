//! What of the configuration may be another while the server runs.

use std::sync::{Arc, PoisonError, RwLock};

/// A part that is taken whole wherever it is used: whoever holds it keeps what it was when it was taken.
#[derive(Debug, Default)]
pub struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    pub fn new(first: T) -> Live<T> {
        Live(RwLock::new(Arc::new(first)))
    }

    pub fn now(&self) -> Arc<T> {
        let now = self.0.read();
        now.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In effect for whoever takes it from now on.
    pub fn set(&self, next: T) {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(next);
    }
}
