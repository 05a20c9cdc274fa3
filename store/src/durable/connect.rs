//! From a URL to a store.

use super::{DurableStore, StoreError, Transfer};
use object_store::{ObjectStore, ObjectStoreScheme, local::LocalFileSystem, path::Path as ObjectPath};
use std::sync::Arc;
use url::Url;

/// Where a store is and how to speak to it.
#[derive(Debug, Clone, Default)]
pub struct Location {
    /// `file:///FOLDER`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.
    pub url: String,
    /// Server to speak to instead of the vendor's. Plain HTTP is spoken only to a server that is named here with it.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Further settings and credentials by the names of the vendor's environment variables, such as `AWS_ACCESS_KEY_ID`;
    /// names that the store does not know are left alone.
    pub options: Vec<(String, String)>,
    /// How objects are moved.
    pub transfer: Transfer,
}

impl DurableStore {
    /// Opens a store. Nothing is sent to it yet.
    ///
    /// # Errors
    /// [`StoreError::Url`], [`StoreError::Scheme`], or [`StoreError::Object`] if the settings do not fit together.
    pub fn connect(location: &Location) -> Result<Self, StoreError> {
        let wrong =
            |reason: &dyn std::fmt::Display| StoreError::Url { url: location.url.clone(), reason: reason.to_string() };
        let url = Url::parse(&location.url).map_err(|error| wrong(&error))?;
        let unknown = || StoreError::Scheme { url: location.url.clone(), scheme: url.scheme().to_owned() };
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| unknown())?;
        let objects: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new().with_fsync(true)),
            #[cfg(feature = "s3")]
            ObjectStoreScheme::AmazonS3 => cloud::s3(location).map_err(|source| misfit(location, source))?,
            #[cfg(feature = "gcs")]
            ObjectStoreScheme::GoogleCloudStorage => cloud::gcs(location).map_err(|source| misfit(location, source))?,
            #[cfg(feature = "azure")]
            ObjectStoreScheme::MicrosoftAzure => cloud::azure(location).map_err(|source| misfit(location, source))?,
            _ => return Err(unknown()),
        };
        let prefix = ObjectPath::parse(prefix).map_err(|error| wrong(&error))?;
        Ok(Self::on(objects, prefix, location.transfer))
    }
}

#[cfg(feature = "cloud")]
fn misfit(location: &Location, source: object_store::Error) -> StoreError {
    StoreError::Object { path: location.url.clone(), source }
}

#[cfg(feature = "cloud")]
mod cloud {
    use super::{Arc, Location, ObjectStore};
    use object_store::{BackoffConfig, ClientOptions, Result, RetryConfig};
    use std::time::Duration;

    /// Requests that fail are made again after a growing pause, for as long as the patience lasts.
    fn retry(location: &Location) -> RetryConfig {
        let backoff =
            BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(10), base: 2.0 };
        RetryConfig { backoff, max_retries: 30, retry_timeout: location.transfer.patience }
    }

    fn client(location: &Location) -> ClientOptions {
        // The program's one cryptography; whoever installed one before us chose it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = location.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let patience = location.transfer.patience;
        ClientOptions::new()
            .with_timeout(patience)
            .with_connect_timeout(patience.min(Duration::from_secs(10)))
            .with_allow_http(plain)
    }

    /// Lays the options that the builder knows over it.
    macro_rules! configured {
        ($builder:ty, $location:expr) => {{
            let builder = <$builder>::new().with_url(&$location.url);
            let builder = $location.options.iter().fold(builder, |builder, (name, value)| {
                match name.to_ascii_lowercase().parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                }
            });
            builder.with_retry(retry($location)).with_client_options(client($location))
        }};
    }

    #[cfg(feature = "s3")]
    pub(super) fn s3(location: &Location) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = configured!(object_store::aws::AmazonS3Builder, location);
        if let Some(endpoint) = &location.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &location.region {
            builder = builder.with_region(region);
        }
        Ok(Arc::new(builder.build()?))
    }

    #[cfg(feature = "gcs")]
    pub(super) fn gcs(location: &Location) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = configured!(object_store::gcp::GoogleCloudStorageBuilder, location);
        if let Some(endpoint) = &location.endpoint {
            builder = builder.with_config(object_store::gcp::GoogleConfigKey::BaseUrl, endpoint);
        }
        Ok(Arc::new(builder.build()?))
    }

    #[cfg(feature = "azure")]
    pub(super) fn azure(location: &Location) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = configured!(object_store::azure::MicrosoftAzureBuilder, location);
        if let Some(endpoint) = &location.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        Ok(Arc::new(builder.build()?))
    }
}
