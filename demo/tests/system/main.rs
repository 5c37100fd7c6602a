//! The system as its users run it: both services as processes, judged by what they export.

mod helpers;
mod lifecycle;
mod list;
mod traces;
