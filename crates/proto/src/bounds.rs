//! How much may be said at once. More is refused with an error that names the field.

/// Bytes of a message.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Bytes of a message that asks for a certificate.
pub const MAX_UNARY_BYTES: usize = 32 << 10;
/// Services of a network.
pub const MAX_SERVICES: usize = 65_536;
/// Endpoints of a service, and as many tombstones.
pub const MAX_ENDPOINTS: usize = 65_536;
/// Endpoints of a service on one host.
pub const MAX_ENDPOINTS_OF_NODE: usize = 1024;
/// Hosts of a network.
pub const MAX_HOSTS: usize = 16_384;
/// Zones of a network.
pub const MAX_ZONES: usize = 1024;
/// Services that control has one host run.
pub const MAX_ASSIGNMENTS: usize = 4096;
/// Bytes of what a service is.
pub const MAX_DEFINITION_BYTES: usize = 256 << 10;
/// Bytes of a reason, in words.
pub const MAX_REASON_BYTES: usize = 1024;
/// Bytes of a version, a boot id, the id of a replica of control.
pub const MAX_WORD_BYTES: usize = 64;
/// Labels of a host.
pub const MAX_LABELS: usize = 64;
/// Bytes of a label's key, and of its value.
pub const MAX_LABEL_BYTES: usize = 255;
/// Bytes of a token.
pub const MAX_TOKEN_BYTES: usize = 512;
/// Bytes of a certificate, or of a request for one.
pub const MAX_CERTIFICATE_BYTES: usize = 16 << 10;
/// Certificates of a chain, and authorities.
pub const MAX_CERTIFICATES: usize = 8;
