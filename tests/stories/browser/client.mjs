// A page's own client: gRPC-Web as its maker's library speaks it, with fetch. In: the gateway's URL, a token, and a file with the
// contracts' descriptor set. Out: a line of JSON a step, on standard output.
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const [baseUrl, token, descriptors] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const transport = createGrpcWebTransport({ baseUrl });
const client = (name) => createClient(registry.getService(name), transport);
const headers = { authorization: `Bearer ${token}` };
const tell = (step) => console.log(JSON.stringify(step));

const tickets = client("ticketing.tickets.v1.TicketService");
const orders = client("ticketing.orders.v1.OrderService");
const payments = client("ticketing.payments.v1.PaymentService");

const price = { currencyCode: "USD", minorUnits: 29900n };
const { ticket } = await tickets.createTicket({ title: "Concert", price, quantity: 2 }, { headers });
const { order } = await orders.createOrder({ ticketId: ticket.id, unitPrice: price }, { headers });
tell({ ticket: ticket.title, order: order.id });

const CREATED = 1, AWAITING_PAYMENT = 2;
for await (const told of orders.watchOrder({ id: order.id }, { headers })) {
  tell({ status: told.order.status });
  if (told.order.status === AWAITING_PAYMENT) {
    const { payment } = await payments.createPayment({ orderId: order.id, paymentMethod: "pm_card_visa" }, { headers });
    tell({ paid: payment.amount.minorUnits.toString() });
  } else if (told.order.status !== CREATED) {
    break;
  }
}

try {
  await orders.getOrder({ id: order.id });
} catch (error) {
  const refused = ConnectError.from(error);
  const [info] = refused.findDetails(registry.getMessage("google.rpc.ErrorInfo"));
  tell({ refused: Code[refused.code], reason: info.reason });
}
