//! A throwaway world for tests, and the rules that hold the house together ([`tidy`]).

pub mod tidy;
