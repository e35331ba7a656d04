import com.mongodb.client.MongoClient;
import java.io.BufferedReader;
import java.io.InputStreamReader;

/** Does one operation at the start and one for each line of its input, with the client that the page makes. */
class MongoDbProgram {
    static void operate(MongoClient client) {
        try {
            client.getDatabase("shop").getCollection("orders").find().first();
            System.out.println("ok");
        } catch (RuntimeException error) {
            System.out.println("failed: " + error.toString().replaceAll("\\s+", " "));
        }
    }

    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        try (MongoClient client = ConnectMongoDb.connect()) {
            operate(client);
            while (lines.readLine() != null) {
                operate(client);
            }
        }
    }
}
