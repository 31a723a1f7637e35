//! Which file runs which mechanism.

use tokio::task::JoinSet;

use super::refresh;
use super::{
    Slot, aws, azure, consul, digitalocean, dns, docker, dockerswarm, ec2, ecs, elasticache, eureka, gce, hetzner,
    ionos, kubernetes, kuma, lightsail, linode, marathon, msk, nerve, nomad, oci, openstack, outscale, ovhcloud,
    puppetdb, rds, scaleway, serverset, stackit, triton, uyuni, vultr, zookeeper,
};
use crate::config::Settings;

/// Starts a mechanism's tasks.
///
/// # Errors
/// When its settings do not work: a certificate cannot be read, a URL is none.
pub(super) fn start(
    name: &'static str,
    settings: &Settings,
    slot: Slot,
    tasks: &mut JoinSet<()>,
) -> Result<(), String> {
    match name {
        "aws" => aws::start(settings, slot, tasks)?,
        "azure" => refresh::start(name, azure::Azure::new(settings)?, settings, slot, tasks),
        "consul" => consul::start(settings, slot, tasks)?,
        "digitalocean" => refresh::start(name, digitalocean::DigitalOcean::new(settings)?, settings, slot, tasks),
        "dns" => refresh::start(name, dns::Dns::new(settings, &slot), settings, slot, tasks),
        "docker" => refresh::start(name, docker::Docker::new(settings)?, settings, slot, tasks),
        "dockerswarm" => refresh::start(name, dockerswarm::DockerSwarm::new(settings)?, settings, slot, tasks),
        "ec2" => refresh::start(name, ec2::Ec2::new(settings)?, settings, slot, tasks),
        "ecs" => refresh::start(name, ecs::Ecs::new(settings)?, settings, slot, tasks),
        "elasticache" => refresh::start(name, elasticache::ElastiCache::new(settings)?, settings, slot, tasks),
        "eureka" => refresh::start(name, eureka::Eureka::new(settings)?, settings, slot, tasks),
        "gce" => refresh::start(name, gce::Gce::new(settings)?, settings, slot, tasks),
        "hetzner" => refresh::start(name, hetzner::Hetzner::new(settings)?, settings, slot, tasks),
        "ionos" => refresh::start(name, ionos::Ionos::new(settings)?, settings, slot, tasks),
        "kubernetes" => kubernetes::start(settings, slot, tasks)?,
        "kuma" => kuma::start(settings, slot, tasks)?,
        "lightsail" => refresh::start(name, lightsail::Lightsail::new(settings)?, settings, slot, tasks),
        "linode" => refresh::start(name, linode::Linode::new(settings)?, settings, slot, tasks),
        "marathon" => refresh::start(name, marathon::Marathon::new(settings)?, settings, slot, tasks),
        "msk" => refresh::start(name, msk::Msk::new(settings)?, settings, slot, tasks),
        "nerve" => zookeeper::start(name, nerve::target, settings, slot, tasks),
        "nomad" => refresh::start(name, nomad::Nomad::new(settings)?, settings, slot, tasks),
        "oci" => refresh::start(name, oci::Oci::new(settings)?, settings, slot, tasks),
        "openstack" => refresh::start(name, openstack::OpenStack::new(settings)?, settings, slot, tasks),
        "outscale" => refresh::start(name, outscale::Outscale::new(settings)?, settings, slot, tasks),
        "ovhcloud" => refresh::start(name, ovhcloud::OvhCloud::new(settings)?, settings, slot, tasks),
        "puppetdb" => refresh::start(name, puppetdb::PuppetDb::new(settings)?, settings, slot, tasks),
        "rds" => refresh::start(name, rds::Rds::new(settings)?, settings, slot, tasks),
        "scaleway" => refresh::start(name, scaleway::Scaleway::new(settings)?, settings, slot, tasks),
        "serverset" => zookeeper::start(name, serverset::target, settings, slot, tasks),
        "stackit" => refresh::start(name, stackit::Stackit::new(settings)?, settings, slot, tasks),
        "triton" => refresh::start(name, triton::Triton::new(settings)?, settings, slot, tasks),
        "uyuni" => refresh::start(name, uyuni::Uyuni::new(settings)?, settings, slot, tasks),
        "vultr" => refresh::start(name, vultr::Vultr::new(settings)?, settings, slot, tasks),
        other => return Err(format!("there is no mechanism {other}")),
    }
    Ok(())
}
