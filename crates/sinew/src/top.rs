//! What `sinew top` shows: rates between two looks, and how they are drawn. No IO in here.

pub(crate) mod history;
pub(crate) mod plain;
pub(crate) mod rates;
pub(crate) mod view;
