//! Placeholder for the seeded simulation.
