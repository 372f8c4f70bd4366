//! What frontends and pipelines import: the modules that the relay serves below `/client/`, which are a package of
//! npm as well, and the module for Python.

mod browser;
mod node;
mod package;
mod python;
