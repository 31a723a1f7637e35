//! `ecs_sd_configs`: the tasks of Amazon's container service.

use std::collections::BTreeMap;

use model::Labels;
use serde_json::{Value, json};

use super::api::{MAX_PAGES, Question, several};
use super::aws::Service;
use super::json::{items, list_in, string};
use super::refresh::Source;
use super::target::{Target, group};
use super::xml::elements;
use crate::config::{Settings, TargetGroup};

const PREFIX: &str = "__meta_ecs_";
const EC2_VERSION: &str = "2016-11-15";

/// Lists the tasks of clusters.
pub(super) struct Ecs {
    service: Service,
    /// Where machines and their network interfaces are looked up.
    machines: Service,
    clusters: Vec<String>,
    /// Requests at once.
    concurrency: usize,
}

/// What tasks are labelled with beside what they say themselves.
#[derive(Default)]
struct Surroundings {
    /// By ARN.
    clusters: BTreeMap<String, Value>,
    /// The service of a cluster, by ARN of the cluster and name.
    services: BTreeMap<(String, String), Value>,
    /// Identifiers of machines, by ARN of the container instance.
    container_instances: BTreeMap<String, String>,
    /// By identifier.
    machines: BTreeMap<String, Value>,
    /// Public addresses, by network interface.
    public_ips: BTreeMap<String, String>,
}

impl Ecs {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        Ok(Self {
            service: Service::new(settings, "ecs")?,
            machines: Service::new(settings, "ec2")?,
            clusters: settings.texts("clusters").to_vec(),
            concurrency: usize::try_from(settings.int("request_concurrency")).unwrap_or(0),
        })
    }

    async fn call(&self, target: &'static str, body: Value) -> Result<Value, String> {
        self.service.json(target, &body).await
    }

    /// All names that a list gives.
    async fn names(&self, target: &'static str, key: &str, mut body: Value) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.call(target, body.clone()).await?;
            names.extend(list_in(&answer, key)?.iter().filter_map(Value::as_str).map(str::to_owned));
            match string(&answer["nextToken"]) {
                "" => return Ok(names),
                token => body["nextToken"] = token.into(),
            }
        }
        Err(format!("{target}: the list has no end"))
    }

    /// What is said about names, as many at once as the service takes.
    async fn described(
        &self,
        target: &'static str,
        key: &'static str,
        names: &[String],
        at_once: usize,
        body: &Value,
    ) -> Result<Vec<Value>, String> {
        let mut questions: Vec<Question<'_, Value>> = Vec::new();
        for names in names.chunks(at_once) {
            let mut body = body.clone();
            body[key] = json!(names);
            questions.push(Box::pin(self.call(target, body)));
        }
        let answers = several(questions, self.concurrency).await?;
        let mut described = Vec::new();
        for answer in &answers {
            described.extend_from_slice(list_in(answer, key)?);
        }
        Ok(described)
    }

    async fn tasks(&self, around: &mut Surroundings) -> Result<Vec<Value>, String> {
        let clusters = if self.clusters.is_empty() {
            self.names("AmazonEC2ContainerServiceV20141113.ListClusters", "clusterArns", json!({})).await?
        } else {
            self.clusters.clone()
        };
        let include = json!({"include": ["TAGS"]});
        let found = self
            .described("AmazonEC2ContainerServiceV20141113.DescribeClusters", "clusters", &clusters, 100, &include)
            .await?;
        around.clusters = found.into_iter().map(|c| (string(&c["clusterArn"]).to_owned(), c)).collect();
        let mut tasks = Vec::new();
        for cluster in &clusters {
            let body = json!({"cluster": cluster, "include": ["TAGS"]});
            let services = self.names(
                "AmazonEC2ContainerServiceV20141113.ListServices",
                "serviceArns",
                json!({"cluster": cluster}),
            );
            let services = services.await?;
            let services = self
                .described("AmazonEC2ContainerServiceV20141113.DescribeServices", "services", &services, 10, &body)
                .await?;
            for service in services {
                let key = (string(&service["clusterArn"]).to_owned(), string(&service["serviceName"]).to_owned());
                around.services.insert(key, service);
            }
            let names = self
                .names("AmazonEC2ContainerServiceV20141113.ListTasks", "taskArns", json!({"cluster": cluster}))
                .await?;
            let of_cluster =
                self.described("AmazonEC2ContainerServiceV20141113.DescribeTasks", "tasks", &names, 100, &body).await?;
            let mut hosts: Vec<String> = of_cluster
                .iter()
                .map(|task| string(&task["containerInstanceArn"]).to_owned())
                .filter(|arn| !arn.is_empty())
                .collect();
            hosts.sort();
            hosts.dedup();
            let body = json!({"cluster": cluster});
            let hosts = self.described(
                "AmazonEC2ContainerServiceV20141113.DescribeContainerInstances",
                "containerInstances",
                &hosts,
                100,
                &body,
            );
            for host in hosts.await? {
                let key = string(&host["containerInstanceArn"]).to_owned();
                around.container_instances.insert(key, string(&host["ec2InstanceId"]).to_owned());
            }
            tasks.extend(of_cluster);
        }
        Ok(tasks)
    }

    /// Looks up the machines that tasks run on, and the public addresses of their interfaces.
    async fn look_up(&self, tasks: &[Value], around: &mut Surroundings) -> Result<(), String> {
        let ids: Vec<String> = around.container_instances.values().filter(|id| !id.is_empty()).cloned().collect();
        for ids in ids.chunks(100) {
            let parameters = numbered("InstanceId", ids);
            let pages =
                self.machines.query_pages(EC2_VERSION, "DescribeInstances", &parameters, "", "NextToken", "nextToken");
            for page in pages.await? {
                for reservation in elements(&page["reservationSet"]["item"]) {
                    for machine in elements(&reservation["instancesSet"]["item"]) {
                        around.machines.insert(string(&machine["instanceId"]).to_owned(), machine.clone());
                    }
                }
            }
        }
        let interfaces: Vec<String> =
            tasks.iter().filter_map(|task| interface(task)?.remove("networkInterfaceId")).map(str::to_owned).collect();
        for ids in interfaces.chunks(100) {
            let parameters = numbered("NetworkInterfaceId", ids);
            let answer = self.machines.query(EC2_VERSION, "DescribeNetworkInterfaces", &parameters).await?;
            for interface in elements(&answer["networkInterfaceSet"]["item"]) {
                let ip = string(&interface["association"]["publicIp"]).to_owned();
                around.public_ips.insert(string(&interface["networkInterfaceId"]).to_owned(), ip);
            }
        }
        Ok(())
    }

    fn target(&self, task: &Value, around: &Surroundings, region: &str) -> Option<Labels> {
        let interface = interface(task);
        let of_interface =
            |name: &str| interface.as_ref().and_then(|details| details.get(name).copied()).unwrap_or_default();
        let machine = around
            .container_instances
            .get(string(&task["containerInstanceArn"]))
            .and_then(|id| around.machines.get(id))
            .unwrap_or(&Value::Null);
        // without an interface of its own, a task is reached where its machine is
        let ip = match of_interface("privateIPv4Address") {
            "" => string(&machine["privateIpAddress"]),
            ip => ip,
        };
        if ip.is_empty() {
            return None;
        }
        let cluster_arn = string(&task["clusterArn"]);
        let cluster = around.clusters.get(cluster_arn).unwrap_or(&Value::Null);
        let group = string(&task["group"]);
        let service_name = group.strip_prefix("service:").unwrap_or_default();
        let service = around.services.get(&(cluster_arn.to_owned(), service_name.to_owned())).unwrap_or(&Value::Null);
        let mut target = Target::new(PREFIX);
        target.address(ip, self.service.port).set("ip_address", ip).set("region", region);
        target.set("cluster_arn", cluster_arn).from("cluster", &cluster["clusterName"]);
        target.from("service", &service["serviceName"]).from("service_arn", &service["serviceArn"]);
        target.from("service_status", &service["status"]).set("task_group", group);
        target.from("task_arn", &task["taskArn"]).from("task_definition", &task["taskDefinitionArn"]);
        target.from("launch_type", &task["launchType"]).from("desired_status", &task["desiredStatus"]);
        target.from("last_status", &task["lastStatus"]).from("health_status", &task["healthStatus"]);
        target.from("platform_family", &task["platformFamily"]).from("platform_version", &task["platformVersion"]);
        target.from("availability_zone", &task["availabilityZone"]);
        target.set("network_mode", if interface.is_some() { "awsvpc" } else { "bridge" });
        let subnet = match of_interface("subnetId") {
            "" => string(&machine["subnetId"]),
            subnet => subnet,
        };
        target.set("subnet_id", subnet);
        let public = around.public_ips.get(of_interface("networkInterfaceId")).map(String::as_str).unwrap_or_default();
        let public = if interface.is_none() { string(&machine["ipAddress"]) } else { public };
        target.set("public_ip", public).from("container_instance_arn", &task["containerInstanceArn"]);
        target.from("ec2_instance_id", &machine["instanceId"]).from("ec2_instance_type", &machine["instanceType"]);
        target.from("ec2_instance_private_ip", &machine["privateIpAddress"]);
        target.from("ec2_instance_public_ip", &machine["ipAddress"]);
        for (start, tags) in
            [("tag_cluster_", &cluster["tags"]), ("tag_service_", &service["tags"]), ("tag_task_", &task["tags"])]
        {
            for tag in items(tags) {
                target.named(start, string(&tag["key"]), string(&tag["value"]));
            }
        }
        for tag in elements(&machine["tagSet"]["item"]) {
            target.named("tag_ec2_", string(&tag["key"]), string(&tag["value"]));
        }
        Some(target.build())
    }
}

/// What is said about the network interface of a task that has one.
fn interface(task: &Value) -> Option<BTreeMap<&str, &str>> {
    let attachment = items(&task["attachments"]).find(|attachment| attachment["type"] == "ElasticNetworkInterface")?;
    Some(items(&attachment["details"]).map(|detail| (string(&detail["name"]), string(&detail["value"]))).collect())
}

fn numbered(name: &str, values: &[String]) -> Vec<(String, String)> {
    values.iter().enumerate().map(|(at, value)| (format!("{name}.{}", at + 1), value.clone())).collect()
}

impl Source for Ecs {
    async fn refresh(&mut self) -> Result<Vec<TargetGroup>, String> {
        let region = self.service.region().await?;
        let mut around = Surroundings::default();
        let tasks = self.tasks(&mut around).await?;
        self.look_up(&tasks, &mut around).await?;
        let targets = tasks.iter().filter_map(|task| self.target(task, &around, &region)).collect();
        Ok(vec![group(region, targets)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, settings};
    use super::*;

    #[test]
    fn tasks_become_targets() {
        let ecs = Ecs::new(&settings("ecs", "{region: r, access_key: a, secret_key: b, port: 9}", None)).unwrap();
        let tags = |value: &str| json!([{"key": "k", "value": value}]);
        let mut around = Surroundings::default();
        around.clusters.insert("arn:c".into(), json!({"clusterName": "main", "tags": tags("c")}));
        let service = json!({"serviceName": "web", "serviceArn": "arn:s", "status": "ACTIVE", "tags": tags("s")});
        around.services.insert(("arn:c".into(), "web".into()), service);
        around.container_instances.insert("arn:ci".into(), "i-1".into());
        let machine = json!({"instanceId": "i-1", "instanceType": "m5", "privateIpAddress": "10.1.0.1", "ipAddress": "3.3.3.3", "subnetId": "sub-m",
            "tagSet": {"item": {"key": "Name", "value": "host"}}});
        around.machines.insert("i-1".into(), machine);
        around.public_ips.insert("eni-1".into(), "4.4.4.4".into());
        let own = json!({"taskArn": "arn:t1", "clusterArn": "arn:c", "group": "service:web", "taskDefinitionArn": "arn:d", "launchType": "FARGATE",
            "desiredStatus": "RUNNING", "lastStatus": "RUNNING", "healthStatus": "HEALTHY", "availabilityZone": "ra", "platformFamily": "Linux",
            "platformVersion": "1.4", "tags": tags("t"), "attachments": [{"type": "ElasticNetworkInterface", "details": [
                {"name": "subnetId", "value": "sub-1"}, {"name": "networkInterfaceId", "value": "eni-1"}, {"name": "privateIPv4Address", "value": "10.0.0.1"}]}]});
        let shared = json!({"taskArn": "arn:t2", "clusterArn": "arn:c", "group": "family:job", "containerInstanceArn": "arn:ci"});
        let nowhere = json!({"taskArn": "arn:t3", "clusterArn": "arn:c"});
        let targets = [own, shared, nowhere].iter().filter_map(|task| ecs.target(task, &around, "r")).collect();
        check(
            &[group("r", targets)],
            PREFIX,
            "10.0.0.1:9 ip_address=10.0.0.1 region=r cluster_arn=arn:c cluster=main service=web service_arn=arn:s service_status=ACTIVE task_group=service:web task_arn=arn:t1 task_definition=arn:d launch_type=FARGATE desired_status=RUNNING last_status=RUNNING health_status=HEALTHY platform_family=Linux platform_version=1.4 availability_zone=ra network_mode=awsvpc subnet_id=sub-1 public_ip=4.4.4.4 tag_cluster_k=c tag_service_k=s tag_task_k=t
             10.1.0.1:9 ip_address=10.1.0.1 region=r cluster_arn=arn:c cluster=main task_group=family:job task_arn=arn:t2 network_mode=bridge subnet_id=sub-m public_ip=3.3.3.3 container_instance_arn=arn:ci ec2_instance_id=i-1 ec2_instance_type=m5 ec2_instance_private_ip=10.1.0.1 ec2_instance_public_ip=3.3.3.3 tag_cluster_k=c tag_ec2_Name=host",
        );
    }

    #[tokio::test]
    async fn clusters_are_asked_about_step_by_step() {
        use super::super::testing::Stub;
        // one answer for all questions: each finds its own list in it
        let task = json!({"taskArn": "arn:t", "clusterArn": "arn:c", "group": "service:web", "attachments": [{"type": "ElasticNetworkInterface",
            "details": [{"name": "privateIPv4Address", "value": "10.0.0.1"}]}]});
        let answer = json!({"clusterArns": ["arn:c"], "clusters": [{"clusterArn": "arn:c", "clusterName": "main"}], "serviceArns": ["arn:s"],
            "services": [{"clusterArn": "arn:c", "serviceName": "web", "serviceArn": "arn:s"}], "taskArns": ["arn:t"], "tasks": [task]});
        let stub = Stub::start([("*", answer)]).await;
        let text = "{endpoint: 'http://SERVER', region: r, access_key: a, secret_key: b}";
        let groups = Ecs::new(&settings("ecs", text, Some(&stub))).unwrap().refresh().await.unwrap();
        check(
            &groups,
            PREFIX,
            "10.0.0.1:80 ip_address=10.0.0.1 region=r cluster_arn=arn:c cluster=main service=web service_arn=arn:s task_group=service:web task_arn=arn:t network_mode=awsvpc",
        );
        let asked: Vec<String> = stub
            .seen()
            .iter()
            .flat_map(|seen| {
                seen.headers
                    .iter()
                    .filter_map(|h| {
                        h.strip_prefix("x-amz-target: AmazonEC2ContainerServiceV20141113.").map(str::to_owned)
                    })
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(
            asked,
            ["ListClusters", "DescribeClusters", "ListServices", "DescribeServices", "ListTasks", "DescribeTasks"]
        );
        assert_eq!(stub.seen()[3].body, r#"{"cluster":"arn:c","include":["TAGS"],"services":["arn:s"]}"#);
    }
}
