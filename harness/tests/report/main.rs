//! Every report format, from outcomes made by hand.

mod files;
mod formats;
mod sample;
mod terminal;
