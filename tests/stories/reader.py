"""Reads a world's topics with another client, in another language, knowing nothing but the contract.

Usage: reader.py BROKERS PREFIX DESCRIPTORS TOPIC...
DESCRIPTORS is a file with the encoded FileDescriptorSet of the protos. Prints one JSON object: topic -> its settings,
its number of partitions, and its records, each with what kafka-python's own partitioner would have chosen for its key.
"""

import json
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.partitioner.default import DefaultPartitioner

MESSAGES = {
    "tickets": "ticketing.tickets.v1.TicketEvent",
    "orders": "ticketing.orders.v1.OrderEvent",
    "payments": "ticketing.payments.v1.PaymentEvent",
    "expiration": "ticketing.expiration.v1.ExpirationEvent",
}


def message_class(descriptors, name):
    pool = descriptor_pool.DescriptorPool()
    with open(descriptors, "rb") as file:
        for proto in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
            pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


class Cluster:
    """As much of a cluster as a partitioner looks at."""

    def __init__(self, topic, partitions):
        self.topic, self.partitions = topic, partitions

    def topics(self):
        return {self.topic}

    def partitions_for_topic(self, _):
        return set(range(self.partitions))

    def available_partitions_for_topic(self, _):
        return set(range(self.partitions))


def records(brokers, topic, message):
    consumer = KafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False, auto_offset_reset="earliest")
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    partitioner, cluster = DefaultPartitioner(), Cluster(topic, len(partitions))
    found = []
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for batch in consumer.poll(timeout_ms=500).values():
            for record in batch:
                decoded = message.FromString(record.value)
                found.append(
                    {
                        "partition": record.partition,
                        "expected_partition": partitioner.partition(topic, record.key, record.key, None, None, cluster),
                        "key": record.key.decode(),
                        "headers": {name: value.decode() for name, value in record.headers},
                        # 1 is LogAppendTime.
                        "timestamp_type": record.timestamp_type,
                        "value": json_format.MessageToDict(decoded, preserving_proto_field_name=True),
                        "change": decoded.WhichOneof("change"),
                    }
                )
    consumer.close()
    return {"partitions": len(partitions), "records": found}


def main(brokers, prefix, descriptors, *topics):
    admin = KafkaAdminClient(bootstrap_servers=brokers)
    answer = {}
    for topic in topics:
        message = message_class(descriptors, MESSAGES[topic])
        answer[topic] = records(brokers, prefix + topic, message)
        answer[topic]["settings"] = settings(admin, prefix + topic)
    admin.close()
    json.dump(answer, sys.stdout)


def settings(admin, topic):
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    (resources,) = described.values()
    return {name: data["value"] for name, data in resources[topic].items()}


main(*sys.argv[1:])
