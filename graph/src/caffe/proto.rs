//! The messages of a caffemodel, as far as they are read; the numbers of the fields are those of `BVLC/caffe`
//! `src/caffe/proto/caffe.proto`. Fields that are not listed are skipped.

/// `NetParameter`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NetParameter {
    /// Layers of the format V1; only so that their presence can be reported.
    #[prost(message, repeated, tag = "2")]
    pub layers: Vec<V1LayerParameter>,
    /// Layers.
    #[prost(message, repeated, tag = "100")]
    pub layer: Vec<LayerParameter>,
}

/// `V1LayerParameter`: nothing of it is read.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct V1LayerParameter {}

/// `LayerParameter`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LayerParameter {
    /// What the layer of the prototxt is found by.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Parameters that were trained.
    #[prost(message, repeated, tag = "7")]
    pub blobs: Vec<BlobProto>,
}

/// `BlobProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BlobProto {
    /// The old form of the shape, four extents.
    #[prost(int32, optional, tag = "1")]
    pub num: Option<i32>,
    /// Second extent of the old form.
    #[prost(int32, optional, tag = "2")]
    pub channels: Option<i32>,
    /// Third extent of the old form.
    #[prost(int32, optional, tag = "3")]
    pub height: Option<i32>,
    /// Fourth extent of the old form.
    #[prost(int32, optional, tag = "4")]
    pub width: Option<i32>,
    /// Contents.
    #[prost(float, repeated, tag = "5")]
    pub data: Vec<f32>,
    /// The shape.
    #[prost(message, optional, tag = "7")]
    pub shape: Option<BlobShape>,
    /// Contents of a network in double precision.
    #[prost(double, repeated, tag = "8")]
    pub double_data: Vec<f64>,
    /// Contents in NVIDIA's fork (`NVIDIA/caffe`, the same file): any type, half precision among them. Only so
    /// that its presence can be reported.
    #[prost(bytes = "vec", optional, tag = "12")]
    pub raw_data: Option<Vec<u8>>,
}

/// `BlobShape`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BlobShape {
    /// Extents.
    #[prost(int64, repeated, tag = "1")]
    pub dim: Vec<i64>,
}
