//! `elasticache_sd_configs`: Amazon's caches, serverless ones and the nodes of clusters.

use std::collections::BTreeMap;

use model::Labels;
use serde_json::Value;

use super::api::{Question, several};
use super::aws::{Service, parameters};
use super::json::string;
use super::rds::describe;
use super::refresh::Source;
use super::target::{Target, group};
use super::xml::elements;
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_elasticache_";
const VERSION: &str = "2015-02-02";

/// Labels of a serverless cache, and the elements that they come from.
const SERVERLESS: [(&str, &str); 21] = [
    ("arn", "ARN"),
    ("name", "ServerlessCacheName"),
    ("status", "Status"),
    ("engine", "Engine"),
    ("full_engine_version", "FullEngineVersion"),
    ("major_engine_version", "MajorEngineVersion"),
    ("description", "Description"),
    ("create_time", "CreateTime"),
    ("snapshot_retention_limit", "SnapshotRetentionLimit"),
    ("daily_snapshot_time", "DailySnapshotTime"),
    ("user_group_id", "UserGroupId"),
    ("kms_key_id", "KmsKeyId"),
    ("endpoint_address", "Endpoint.Address"),
    ("endpoint_port", "Endpoint.Port"),
    ("reader_endpoint_address", "ReaderEndpoint.Address"),
    ("reader_endpoint_port", "ReaderEndpoint.Port"),
    ("cache_usage_limit_data_storage_maximum", "CacheUsageLimits.DataStorage.Maximum"),
    ("cache_usage_limit_data_storage_minimum", "CacheUsageLimits.DataStorage.Minimum"),
    ("cache_usage_limit_data_storage_unit", "CacheUsageLimits.DataStorage.Unit"),
    ("cache_usage_limit_ecpu_per_second_maximum", "CacheUsageLimits.ECPUPerSecond.Maximum"),
    ("cache_usage_limit_ecpu_per_second_minimum", "CacheUsageLimits.ECPUPerSecond.Minimum"),
];

/// Labels of a cache cluster, and the elements that they come from.
const CLUSTER: [(&str, &str); 35] = [
    ("arn", "ARN"),
    ("cache_cluster_id", "CacheClusterId"),
    ("cache_cluster_status", "CacheClusterStatus"),
    ("engine", "Engine"),
    ("engine_version", "EngineVersion"),
    ("cache_node_type", "CacheNodeType"),
    ("num_cache_nodes", "NumCacheNodes"),
    ("cache_cluster_create_time", "CacheClusterCreateTime"),
    ("at_rest_encryption_enabled", "AtRestEncryptionEnabled"),
    ("transit_encryption_enabled", "TransitEncryptionEnabled"),
    ("transit_encryption_mode", "TransitEncryptionMode"),
    ("auth_token_enabled", "AuthTokenEnabled"),
    ("auto_minor_version_upgrade", "AutoMinorVersionUpgrade"),
    ("cache_parameter_group", "CacheParameterGroup.CacheParameterGroupName"),
    ("cache_subnet_group_name", "CacheSubnetGroupName"),
    ("client_download_landing_page", "ClientDownloadLandingPage"),
    ("ip_discovery", "IpDiscovery"),
    ("network_type", "NetworkType"),
    ("preferred_availability_zone", "PreferredAvailabilityZone"),
    ("preferred_maintenance_window", "PreferredMaintenanceWindow"),
    ("preferred_outpost_arn", "PreferredOutpostArn"),
    ("replication_group_id", "ReplicationGroupId"),
    ("replication_group_log_delivery_enabled", "ReplicationGroupLogDeliveryEnabled"),
    ("snapshot_retention_limit", "SnapshotRetentionLimit"),
    ("snapshot_window", "SnapshotWindow"),
    ("configuration_endpoint_address", "ConfigurationEndpoint.Address"),
    ("configuration_endpoint_port", "ConfigurationEndpoint.Port"),
    ("notification_topic_arn", "NotificationConfiguration.TopicArn"),
    ("notification_topic_status", "NotificationConfiguration.TopicStatus"),
    ("pending_modified_values_auth_token_status", "PendingModifiedValues.AuthTokenStatus"),
    ("pending_modified_values_cache_node_type", "PendingModifiedValues.CacheNodeType"),
    ("pending_modified_values_engine_version", "PendingModifiedValues.EngineVersion"),
    ("pending_modified_values_num_cache_nodes", "PendingModifiedValues.NumCacheNodes"),
    ("pending_modified_values_transit_encryption_enabled", "PendingModifiedValues.TransitEncryptionEnabled"),
    ("pending_modified_values_transit_encryption_mode", "PendingModifiedValues.TransitEncryptionMode"),
];

/// Labels of its nodes.
const NODE: [(&str, &str); 9] = [
    ("id", "CacheNodeId"),
    ("status", "CacheNodeStatus"),
    ("create_time", "CacheNodeCreateTime"),
    ("availability_zone", "CustomerAvailabilityZone"),
    ("customer_outpost_arn", "CustomerOutpostArn"),
    ("source_cache_node_id", "SourceCacheNodeId"),
    ("parameter_group_status", "ParameterGroupStatus"),
    ("endpoint_address", "Endpoint.Address"),
    ("endpoint_port", "Endpoint.Port"),
];

/// Lists caches.
pub(super) struct ElastiCache {
    service: Service,
    clusters: Vec<String>,
    /// Requests at once.
    concurrency: usize,
}

impl ElastiCache {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            service: Service::new(settings, "elasticache")?,
            clusters: settings.texts("clusters").to_vec(),
            // `aws_sd_configs` has no such key
            concurrency: usize::try_from(settings.int("request_concurrency")).unwrap_or(0),
        })
    }

    /// The names of configured caches of a kind: the last part of ARNs such as `arn:aws:elasticache:R:A:serverlesscache:NAME`.
    fn wanted(&self, kind: &str) -> Vec<&str> {
        let names = self.clusters.iter().filter_map(|arn| {
            let parts: Vec<&str> = arn.splitn(7, ':').collect();
            (parts.len() == 7 && parts[5] == kind).then(|| parts[6])
        });
        names.collect()
    }

    async fn serverless(&self) -> Result<Vec<Value>, String> {
        let mut questions = vec![parameters([("MaxResults", "50")])];
        if !self.clusters.is_empty() {
            let names = self.wanted("serverlesscache");
            questions = names.into_iter().map(|name| parameters([("ServerlessCacheName", name)])).collect();
        }
        let mut caches = Vec::new();
        for question in questions {
            let pages = self.service.query_pages(
                VERSION,
                "DescribeServerlessCaches",
                &question,
                "DescribeServerlessCachesResult",
                "NextToken",
                "NextToken",
            );
            for page in pages.await? {
                caches.extend(elements(&page["ServerlessCaches"]["member"]).into_iter().cloned());
            }
        }
        Ok(caches)
    }

    async fn cache_clusters(&self) -> Result<Vec<Value>, String> {
        let mut questions = Vec::new();
        let names = [self.wanted("replicationgroup"), self.wanted("cluster")].concat();
        for alone in ["false", "true"] {
            let common = [
                ("MaxRecords", "100"),
                ("ShowCacheNodeInfo", "true"),
                ("ShowCacheClustersNotInReplicationGroups", alone),
            ];
            if self.clusters.is_empty() {
                questions.push(parameters(common));
            }
            for name in &names {
                questions.push([&parameters(common)[..], &parameters([("CacheClusterId", name)])].concat());
            }
        }
        let mut clusters: BTreeMap<String, Value> = BTreeMap::new();
        for question in questions {
            let pages = self.service.query_pages(
                VERSION,
                "DescribeCacheClusters",
                &question,
                "DescribeCacheClustersResult",
                "Marker",
                "Marker",
            );
            for page in pages.await? {
                for cluster in elements(&page["CacheClusters"]["CacheCluster"]) {
                    clusters.insert(string(&cluster["ARN"]).to_owned(), cluster.clone());
                }
            }
        }
        Ok(clusters.into_values().collect())
    }

    async fn tags(&self, cache: &Value) -> Result<Vec<(String, String)>, String> {
        let question = parameters([("ResourceName", string(&cache["ARN"]))]);
        let answer = self.service.query(VERSION, "ListTagsForResource", &question).await?;
        let tags = elements(&answer["ListTagsForResourceResult"]["TagList"]["Tag"]);
        Ok(tags.into_iter().map(|tag| (string(&tag["Key"]).to_owned(), string(&tag["Value"]).to_owned())).collect())
    }
}

fn serverless_target(cache: &Value, tags: &[(String, String)]) -> Labels {
    let mut target = Target::new(PREFIX);
    target.set("deployment_option", "serverless");
    describe(&mut target, "serverless_cache_", &SERVERLESS, cache);
    for (list, element, label) in
        [("SecurityGroupIds", "SecurityGroupId", "security_group_id"), ("SubnetIds", "SubnetId", "subnet_id")]
    {
        // the service writes `member` for what its description calls otherwise
        let found = [elements(&cache[list]["member"]), elements(&cache[list][element])].concat();
        for (at, value) in found.into_iter().enumerate() {
            target.from(&format!("serverless_cache_{label}_{at}"), value);
        }
    }
    for (name, value) in tags {
        target.named("serverless_cache_tag_", name, value);
    }
    set_address(&mut target, &cache["Endpoint"]);
    target.build()
}

/// A target for each node.
fn cluster_targets(cluster: &Value, tags: &[(String, String)]) -> Vec<Labels> {
    let mut common = Target::new(PREFIX);
    common.set("deployment_option", "node");
    describe(&mut common, "cache_cluster_", &CLUSTER, cluster);
    common.from("cache_cluster_auth_token_last_modified", &cluster["AuthTokenLastModifiedDate"]);
    let removed = elements(&cluster["PendingModifiedValues"]["CacheNodeIdsToRemove"]["CacheNodeId"]);
    let removed: Vec<&str> = removed.into_iter().map(string).collect();
    common.set("cache_cluster_pending_modified_values_cache_node_ids_to_remove", removed.join(","));
    for (at, delivery) in
        elements(&cluster["LogDeliveryConfigurations"]["LogDeliveryConfiguration"]).into_iter().enumerate()
    {
        let details = &delivery["DestinationDetails"];
        for (label, value) in [
            ("destination_type", &delivery["DestinationType"]),
            ("log_format", &delivery["LogFormat"]),
            ("log_type", &delivery["LogType"]),
            ("status", &delivery["Status"]),
            ("message", &delivery["Message"]),
            ("log_group", &details["CloudWatchLogsDetails"]["LogGroup"]),
            ("delivery_stream", &details["KinesisFirehoseDetails"]["DeliveryStream"]),
        ] {
            common.from(&format!("cache_cluster_log_delivery_configuration_{label}_{at}"), value);
        }
    }
    for (at, security) in elements(&cluster["SecurityGroups"]["member"]).into_iter().enumerate() {
        common.from(&format!("cache_cluster_security_group_membership_id_{at}"), &security["SecurityGroupId"]);
        common.from(&format!("cache_cluster_security_group_membership_status_{at}"), &security["Status"]);
    }
    for (name, value) in tags {
        common.named("cache_cluster_tag_", name, value);
    }
    let targets = elements(&cluster["CacheNodes"]["CacheNode"]).into_iter().map(|node| {
        let mut target = common.clone();
        describe(&mut target, "cache_cluster_node_", &NODE, node);
        set_address(&mut target, &node["Endpoint"]);
        target.build()
    });
    targets.collect()
}

fn set_address(target: &mut Target, endpoint: &Value) {
    let (host, port) = (string(&endpoint["Address"]), string(&endpoint["Port"]));
    if !host.is_empty() && !port.is_empty() {
        target.address(host, port);
    }
}

impl Source for ElastiCache {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let region = self.service.region().await?;
        let (serverless, clusters) = (self.serverless().await?, self.cache_clusters().await?);
        let caches: Vec<&Value> = serverless.iter().chain(&clusters).collect();
        let mut questions: Vec<Question<'_, Vec<(String, String)>>> = Vec::new();
        for cache in &caches {
            questions.push(Box::pin(self.tags(cache)));
        }
        let tags = several(questions, self.concurrency).await?;
        let mut targets = Vec::new();
        for (at, (cache, tags)) in caches.iter().zip(&tags).enumerate() {
            if at < serverless.len() {
                targets.push(serverless_target(cache, tags));
            } else {
                targets.extend(cluster_targets(cache, tags));
            }
        }
        Ok(vec![group(region, targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    #[tokio::test]
    async fn caches_become_targets() {
        // one answer for all questions: each finds its own part in it
        let answer = "<All><DescribeServerlessCachesResult><ServerlessCaches><member><ARN>arn:s</ARN><ServerlessCacheName>less</ServerlessCacheName><Engine>valkey</Engine>
            <Endpoint><Address>less.cache</Address><Port>6379</Port></Endpoint><SubnetIds><member>sub-1</member><member>sub-2</member></SubnetIds>
            <CacheUsageLimits><DataStorage><Maximum>10</Maximum><Unit>GB</Unit></DataStorage></CacheUsageLimits></member></ServerlessCaches></DescribeServerlessCachesResult>
            <DescribeCacheClustersResult><CacheClusters><CacheCluster><ARN>arn:c</ARN><CacheClusterId>c1</CacheClusterId><CacheClusterStatus>available</CacheClusterStatus>
            <NumCacheNodes>2</NumCacheNodes><CacheParameterGroup><CacheParameterGroupName>pg</CacheParameterGroupName></CacheParameterGroup>
            <SecurityGroups><member><SecurityGroupId>sg</SecurityGroupId><Status>active</Status></member></SecurityGroups>
            <LogDeliveryConfigurations><LogDeliveryConfiguration><LogType>slow-log</LogType><DestinationDetails><CloudWatchLogsDetails><LogGroup>lg</LogGroup></CloudWatchLogsDetails></DestinationDetails></LogDeliveryConfiguration></LogDeliveryConfigurations>
            <PendingModifiedValues><NumCacheNodes>1</NumCacheNodes><CacheNodeIdsToRemove><CacheNodeId>0001</CacheNodeId><CacheNodeId>0002</CacheNodeId></CacheNodeIdsToRemove></PendingModifiedValues>
            <CacheNodes><CacheNode><CacheNodeId>0001</CacheNodeId><Endpoint><Address>n1</Address><Port>11211</Port></Endpoint></CacheNode>
            <CacheNode><CacheNodeId>0002</CacheNodeId><Endpoint><Address>n2</Address><Port>11211</Port></Endpoint></CacheNode></CacheNodes></CacheCluster></CacheClusters></DescribeCacheClustersResult>
            <ListTagsForResourceResult><TagList><Tag><Key>team</Key><Value>x</Value></Tag></TagList></ListTagsForResourceResult></All>";
        let stub = Stub::start([]).await;
        stub.set("*", Reply::Raw(200, "", answer.into()));
        let text = "{endpoint: 'http://SERVER', region: r, access_key: a, secret_key: b}";
        let groups = ElastiCache::new(&settings("elasticache", text, Some(&stub))).unwrap().refresh().await.unwrap();
        const C: &str = "cache_cluster_";
        let cluster = format!(
            "deployment_option=node {C}arn=arn:c {C}cache_cluster_id=c1 {C}cache_cluster_status=available {C}num_cache_nodes=2 {C}cache_parameter_group=pg {C}security_group_membership_id_0=sg {C}security_group_membership_status_0=active {C}log_delivery_configuration_log_type_0=slow-log {C}log_delivery_configuration_log_group_0=lg {C}pending_modified_values_num_cache_nodes=1 {C}pending_modified_values_cache_node_ids_to_remove=0001,0002 {C}tag_team=x"
        );
        check(
            &groups,
            PREFIX,
            &format!(
                "less.cache:6379 deployment_option=serverless serverless_cache_arn=arn:s serverless_cache_name=less serverless_cache_engine=valkey serverless_cache_endpoint_address=less.cache serverless_cache_endpoint_port=6379 serverless_cache_subnet_id_0=sub-1 serverless_cache_subnet_id_1=sub-2 serverless_cache_cache_usage_limit_data_storage_maximum=10 serverless_cache_cache_usage_limit_data_storage_unit=GB serverless_cache_tag_team=x
                 n1:11211 {cluster} {C}node_id=0001 {C}node_endpoint_address=n1 {C}node_endpoint_port=11211
                 n2:11211 {cluster} {C}node_id=0002 {C}node_endpoint_address=n2 {C}node_endpoint_port=11211"
            ),
        );
    }

    #[tokio::test]
    async fn wanted_caches_are_asked_for_by_name() {
        let stub = Stub::start([]).await;
        stub.set("*", Reply::Raw(200, "", "<None/>".into()));
        let text = "{endpoint: 'http://SERVER', region: r, access_key: a, secret_key: b, clusters: ['arn:aws:elasticache:r:1:serverlesscache:less', 'arn:aws:elasticache:r:1:replicationgroup:c1', nonsense]}";
        ElastiCache::new(&settings("elasticache", text, Some(&stub))).unwrap().refresh().await.unwrap();
        let bodies: Vec<String> = stub.seen().into_iter().map(|seen| seen.body).collect();
        assert_eq!(bodies.len(), 3, "{bodies:?}");
        assert!(
            bodies[0].ends_with("ServerlessCacheName=less") && bodies[2].ends_with("=true&CacheClusterId=c1"),
            "{bodies:?}"
        );
    }
}
