//! `rds_sd_configs`: the instances of Amazon's database clusters.

use model::Labels;
use serde_json::Value;

use super::api::{Question, several};
use super::aws::{Service, filters, parameters};
use super::json::{string, text};
use super::refresh::Source;
use super::target::{Target, group};
use super::xml::elements;
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_rds_";
const VERSION: &str = "2014-10-31";

/// Labels of a cluster, and the elements that they come from.
const CLUSTER: [(&str, &str); 68] = [
    ("activity_stream_kinesis_stream_name", "ActivityStreamKinesisStreamName"),
    ("activity_stream_kms_key_id", "ActivityStreamKmsKeyId"),
    ("activity_stream_mode", "ActivityStreamMode"),
    ("activity_stream_status", "ActivityStreamStatus"),
    ("allocated_storage", "AllocatedStorage"),
    ("arn", "DBClusterArn"),
    ("auto_minor_version_upgrade", "AutoMinorVersionUpgrade"),
    ("automatic_restart_time", "AutomaticRestartTime"),
    ("aws_backup_recovery_point_arn", "AwsBackupRecoveryPointArn"),
    ("backtrack_consumed_change_records", "BacktrackConsumedChangeRecords"),
    ("backtrack_window", "BacktrackWindow"),
    ("backup_retention_period", "BackupRetentionPeriod"),
    ("capacity", "Capacity"),
    ("character_set_name", "CharacterSetName"),
    ("clone_group_id", "CloneGroupId"),
    ("cluster_create_time", "ClusterCreateTime"),
    ("cluster_scalability_type", "ClusterScalabilityType"),
    ("copy_tags_to_snapshot", "CopyTagsToSnapshot"),
    ("cross_account_clone", "CrossAccountClone"),
    ("database_insights_mode", "DatabaseInsightsMode"),
    ("database_name", "DatabaseName"),
    ("db_system_id", "DBSystemId"),
    ("deletion_protection", "DeletionProtection"),
    ("earliest_backtrack_time", "EarliestBacktrackTime"),
    ("earliest_restorable_time", "EarliestRestorableTime"),
    ("endpoint", "Endpoint"),
    ("engine_lifecycle_support", "EngineLifecycleSupport"),
    ("engine_mode", "EngineMode"),
    ("engine_version", "EngineVersion"),
    ("engine", "Engine"),
    ("global_cluster_identifier", "GlobalClusterIdentifier"),
    ("global_write_forwarding_requested", "GlobalWriteForwardingRequested"),
    ("global_write_forwarding_status", "GlobalWriteForwardingStatus"),
    ("hosted_zone_id", "HostedZoneId"),
    ("http_endpoint_enabled", "HttpEndpointEnabled"),
    ("iam_database_authentication_enabled", "IAMDatabaseAuthenticationEnabled"),
    ("identifier", "DBClusterIdentifier"),
    ("instance_class", "DBClusterInstanceClass"),
    ("io_optimized_next_allowed_modification_time", "IOOptimizedNextAllowedModificationTime"),
    ("iops", "Iops"),
    ("kms_key_id", "KmsKeyId"),
    ("latest_restorable_time", "LatestRestorableTime"),
    ("local_write_forwarding_status", "LocalWriteForwardingStatus"),
    ("master_username", "MasterUsername"),
    ("monitoring_interval", "MonitoringInterval"),
    ("monitoring_role_arn", "MonitoringRoleArn"),
    ("multi_az", "MultiAZ"),
    ("network_type", "NetworkType"),
    ("parameter_group", "DBClusterParameterGroup"),
    ("percent_progress", "PercentProgress"),
    ("performance_insights_enabled", "PerformanceInsightsEnabled"),
    ("performance_insights_kms_key_id", "PerformanceInsightsKMSKeyId"),
    ("performance_insights_retention_period", "PerformanceInsightsRetentionPeriod"),
    ("port", "Port"),
    ("preferred_backup_window", "PreferredBackupWindow"),
    ("preferred_maintenance_window", "PreferredMaintenanceWindow"),
    ("publicly_accessible", "PubliclyAccessible"),
    ("reader_endpoint", "ReaderEndpoint"),
    ("replication_source_identifier", "ReplicationSourceIdentifier"),
    ("resource_id", "DbClusterResourceId"),
    ("serverless_v2_platform_version", "ServerlessV2PlatformVersion"),
    ("status", "Status"),
    ("storage_encrypted", "StorageEncrypted"),
    ("storage_encryption_type", "StorageEncryptionType"),
    ("storage_throughput", "StorageThroughput"),
    ("storage_type", "StorageType"),
    ("subnet_group", "DBSubnetGroup"),
    ("upgrade_rollout_order", "UpgradeRolloutOrder"),
];

/// Labels of an instance, and the elements that they come from.
const INSTANCE: [(&str, &str); 78] = [
    ("activity_stream_engine_native_audit_fields_included", "ActivityStreamEngineNativeAuditFieldsIncluded"),
    ("activity_stream_kinesis_stream_name", "ActivityStreamKinesisStreamName"),
    ("activity_stream_kms_key_id", "ActivityStreamKmsKeyId"),
    ("activity_stream_mode", "ActivityStreamMode"),
    ("activity_stream_policy_status", "ActivityStreamPolicyStatus"),
    ("activity_stream_status", "ActivityStreamStatus"),
    ("allocated_storage", "AllocatedStorage"),
    ("arn", "DBInstanceArn"),
    ("auto_minor_version_upgrade", "AutoMinorVersionUpgrade"),
    ("automatic_restart_time", "AutomaticRestartTime"),
    ("automation_mode", "AutomationMode"),
    ("availability_zone", "AvailabilityZone"),
    ("aws_backup_recovery_point_arn", "AwsBackupRecoveryPointArn"),
    ("backup_retention_period", "BackupRetentionPeriod"),
    ("backup_target", "BackupTarget"),
    ("ca_certificate_identifier", "CACertificateIdentifier"),
    ("character_set_name", "CharacterSetName"),
    ("class", "DBInstanceClass"),
    ("copy_tags_to_snapshot", "CopyTagsToSnapshot"),
    ("custom_iam_instance_profile", "CustomIamInstanceProfile"),
    ("customer_owned_ip_enabled", "CustomerOwnedIpEnabled"),
    ("database_insights_mode", "DatabaseInsightsMode"),
    ("db_cluster_identifier", "DBClusterIdentifier"),
    ("db_name", "DBName"),
    ("db_system_id", "DBSystemId"),
    ("dedicated_log_volume", "DedicatedLogVolume"),
    ("deletion_protection", "DeletionProtection"),
    ("endpoint_address", "Endpoint.Address"),
    ("endpoint_hosted_zone_id", "Endpoint.HostedZoneId"),
    ("endpoint_port", "Endpoint.Port"),
    ("engine_lifecycle_support", "EngineLifecycleSupport"),
    ("engine_version", "EngineVersion"),
    ("engine", "Engine"),
    ("enhanced_monitoring_resource_arn", "EnhancedMonitoringResourceArn"),
    ("iam_database_authentication_enabled", "IAMDatabaseAuthenticationEnabled"),
    ("identifier", "DBInstanceIdentifier"),
    ("instance_create_time", "InstanceCreateTime"),
    ("iops", "Iops"),
    ("is_storage_config_upgrade_available", "IsStorageConfigUpgradeAvailable"),
    ("kms_key_id", "KmsKeyId"),
    ("latest_restorable_time", "LatestRestorableTime"),
    ("license_model", "LicenseModel"),
    ("listener_endpoint_address", "ListenerEndpoint.Address"),
    ("listener_endpoint_hosted_zone_id", "ListenerEndpoint.HostedZoneId"),
    ("listener_endpoint_port", "ListenerEndpoint.Port"),
    ("master_username", "MasterUsername"),
    ("max_allocated_storage", "MaxAllocatedStorage"),
    ("monitoring_interval", "MonitoringInterval"),
    ("monitoring_role_arn", "MonitoringRoleArn"),
    ("multi_az", "MultiAZ"),
    ("multi_tenant", "MultiTenant"),
    ("nchar_character_set_name", "NcharCharacterSetName"),
    ("network_type", "NetworkType"),
    ("percent_progress", "PercentProgress"),
    ("performance_insights_enabled", "PerformanceInsightsEnabled"),
    ("performance_insights_kms_key_id", "PerformanceInsightsKMSKeyId"),
    ("performance_insights_retention_period", "PerformanceInsightsRetentionPeriod"),
    ("port", "DbInstancePort"),
    ("preferred_backup_window", "PreferredBackupWindow"),
    ("preferred_maintenance_window", "PreferredMaintenanceWindow"),
    ("promotion_tier", "PromotionTier"),
    ("publicly_accessible", "PubliclyAccessible"),
    ("read_replica_source_db_cluster_identifier", "ReadReplicaSourceDBClusterIdentifier"),
    ("read_replica_source_db_instance_identifier", "ReadReplicaSourceDBInstanceIdentifier"),
    ("replica_mode", "ReplicaMode"),
    ("resource_id", "DbiResourceId"),
    ("resume_full_automation_mode_time", "ResumeFullAutomationModeTime"),
    ("secondary_availability_zone", "SecondaryAvailabilityZone"),
    ("status", "DBInstanceStatus"),
    ("storage_encrypted", "StorageEncrypted"),
    ("storage_encryption_type", "StorageEncryptionType"),
    ("storage_throughput", "StorageThroughput"),
    ("storage_type", "StorageType"),
    ("storage_volume_status", "StorageVolumeStatus"),
    ("subnet_group", "DBSubnetGroup.DBSubnetGroupName"),
    ("tde_credential_arn", "TdeCredentialArn"),
    ("timezone", "Timezone"),
    ("upgrade_rollout_order", "UpgradeRolloutOrder"),
];

/// Lists the instances of clusters.
pub(super) struct Rds {
    service: Service,
    clusters: Vec<String>,
    filters: Vec<(String, String)>,
    /// Requests at once.
    concurrency: usize,
}

impl Rds {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            service: Service::new(settings, "rds")?,
            clusters: settings.texts("clusters").to_vec(),
            filters: filters(settings, "Filters.Filter", "Values.Value"),
            // `aws_sd_configs` has no such key
            concurrency: usize::try_from(settings.int("request_concurrency")).unwrap_or(0),
        })
    }

    async fn pages(&self, action: &str, parameters: &[(String, String)]) -> Result<Vec<Value>, String> {
        let result = format!("{action}Result");
        self.service.query_pages(VERSION, action, parameters, &result, "Marker", "Marker").await
    }

    async fn clusters(&self) -> Result<Vec<Value>, String> {
        let mut wanted = vec![self.filters.clone()];
        if !self.clusters.is_empty() {
            let of = |cluster: &String| [&parameters([("DBClusterIdentifier", cluster)])[..], &self.filters].concat();
            wanted = self.clusters.iter().map(of).collect();
        }
        let mut clusters = Vec::new();
        for mut parameters in wanted {
            parameters.push(("MaxRecords".into(), "100".into()));
            for page in self.pages("DescribeDBClusters", &parameters).await? {
                clusters.extend(elements(&page["DBClusters"]["DBCluster"]).into_iter().cloned());
            }
        }
        Ok(clusters)
    }

    async fn instances(&self, cluster: &Value) -> Result<Vec<Value>, String> {
        let arn = string(&cluster["DBClusterArn"]);
        let parameters = parameters([
            ("Filters.Filter.1.Name", "db-cluster-id"),
            ("Filters.Filter.1.Values.Value.1", arn),
            ("MaxRecords", "100"),
        ]);
        let pages = self.pages("DescribeDBInstances", &parameters).await?;
        Ok(pages.iter().flat_map(|page| elements(&page["DBInstances"]["DBInstance"])).cloned().collect())
    }

    fn target(&self, cluster: &Value, instance: &Value) -> Labels {
        let mut target = Target::new(PREFIX);
        describe(&mut target, "cluster_", &CLUSTER, cluster);
        describe(&mut target, "instance_", &INSTANCE, instance);
        let members = elements(&cluster["DBClusterMembers"]["DBClusterMember"]);
        let member = members.into_iter().find(|m| m["DBInstanceIdentifier"] == instance["DBInstanceIdentifier"]);
        target.from("instance_is_cluster_writer", member.map_or(&Value::Null, |member| &member["IsClusterWriter"]));
        for (start, object) in [("cluster_tag_", cluster), ("instance_tag_", instance)] {
            for tag in elements(&object["TagList"]["Tag"]) {
                target.named(start, string(&tag["Key"]), string(&tag["Value"]));
            }
        }
        let endpoint = string(&instance["Endpoint"]["Address"]);
        if !endpoint.is_empty() {
            target.address(endpoint, self.service.port);
        }
        target.build()
    }
}

/// Sets labels from elements; a dot leads into an element.
pub(super) fn describe(target: &mut Target, start: &str, table: &[(&str, &str)], object: &Value) {
    for (label, path) in table {
        let value = path.split('.').fold(object, |value, name| &value[name]);
        target.set(&format!("{start}{label}"), time(&text(value)));
    }
}

/// Times without the fractions of seconds that the service writes; everything else as it is.
fn time(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) if whole.len() == 19 && whole.as_bytes()[10] == b'T' && fraction.ends_with('Z') => {
            format!("{whole}Z")
        }
        _ => text.to_owned(),
    }
}

impl Source for Rds {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let region = self.service.region().await?;
        let clusters = self.clusters().await?;
        let mut questions: Vec<Question<'_, Vec<Value>>> = Vec::new();
        for cluster in &clusters {
            questions.push(Box::pin(self.instances(cluster)));
        }
        let instances = several(questions, self.concurrency).await?;
        let mut targets = Vec::new();
        for (cluster, instances) in clusters.iter().zip(&instances) {
            targets.extend(instances.iter().map(|instance| self.target(cluster, instance)));
        }
        Ok(vec![group(region, targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Reply, Stub, check, settings};
    use super::*;

    const KEYS: &str = "endpoint: 'http://SERVER', region: r, access_key: a, secret_key: b";

    #[tokio::test]
    async fn instances_become_targets() {
        // one answer for both questions: each finds its own part in it
        let answer = "<Both><DescribeDBClustersResult><DBClusters><DBCluster><DBClusterArn>arn:c</DBClusterArn><DBClusterIdentifier>main</DBClusterIdentifier>
            <Engine>aurora</Engine><MultiAZ>true</MultiAZ><ClusterCreateTime>2024-01-02T03:04:05.678Z</ClusterCreateTime><Port>3306</Port>
            <TagList><Tag><Key>a.b</Key><Value>c</Value></Tag></TagList>
            <DBClusterMembers><DBClusterMember><DBInstanceIdentifier>i1</DBInstanceIdentifier><IsClusterWriter>true</IsClusterWriter></DBClusterMember></DBClusterMembers>
            </DBCluster></DBClusters></DescribeDBClustersResult>
            <DescribeDBInstancesResult><DBInstances><DBInstance><DBInstanceIdentifier>i1</DBInstanceIdentifier><DBInstanceClass>db.r6</DBInstanceClass>
            <Endpoint><Address>i1.rds</Address><Port>3306</Port></Endpoint><DBSubnetGroup><DBSubnetGroupName>sub</DBSubnetGroupName></DBSubnetGroup>
            <EngineVersion>8.0.39</EngineVersion></DBInstance></DBInstances></DescribeDBInstancesResult></Both>";
        let stub = Stub::start([]).await;
        stub.set("*", Reply::Raw(200, "", answer.into()));
        let text = format!("{{{KEYS}, port: 9104, clusters: [main], filters: [{{name: engine, values: [aurora]}}]}}");
        let groups = Rds::new(&settings("rds", &text, Some(&stub))).unwrap().refresh().await.unwrap();
        check(
            &groups,
            PREFIX,
            "i1.rds:9104 cluster_arn=arn:c cluster_identifier=main cluster_engine=aurora cluster_multi_az=true cluster_cluster_create_time=2024-01-02T03:04:05Z cluster_port=3306 cluster_tag_a_b=c instance_identifier=i1 instance_class=db.r6 instance_endpoint_address=i1.rds instance_endpoint_port=3306 instance_subnet_group=sub instance_engine_version=8.0.39 instance_is_cluster_writer=true",
        );
        assert_eq!(
            stub.seen()[0].body,
            "Action=DescribeDBClusters&Version=2014-10-31&DBClusterIdentifier=main&Filters.Filter.1.Name=engine&Filters.Filter.1.Values.Value.1=aurora&MaxRecords=100"
        );
    }
}
