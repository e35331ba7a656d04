// Does one operation at the start and one for each line of its input, with the client that the page makes.
import { createInterface } from "node:readline";
import { connect } from "./connect.mjs";

async function operate(client) {
  try {
    await client.db("shop").collection("orders").findOne();
    console.log("ok");
  } catch (error) {
    console.log("failed:", `${error} ${error.cause ?? ""}`.replace(/\s+/g, " "));
  }
}

const client = await connect();
await operate(client);
for await (const _ of createInterface({ input: process.stdin })) {
  await operate(client);
}
await client.close();
