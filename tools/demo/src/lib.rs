//! A tour of the whole system on one machine: [`tour`] sends one book through it and checks what can
//! be seen of it, [`failure`] injects a failure and follows it to its Sentry event.

pub mod failure;
pub mod tour;
