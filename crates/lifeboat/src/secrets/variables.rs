//! Files of variables, `.env` and its like. Reading and changing them is a matter of text alone, and done in the model.

pub use lifeboat_model::variables::{assignments, value_of};
