//! Every report format, from outcomes made by hand.

mod browser;
mod files;
mod formats;
mod sample;
mod terminal;
