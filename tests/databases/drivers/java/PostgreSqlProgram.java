import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.SQLException;

/** Opens a connection as the page does, at the start and for each line of its input, and prints the serial number that the server was shown. */
class PostgreSqlProgram {
    static final String SHOWN = "SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

    static String shown(Connection connection) throws SQLException {
        try (var statement = connection.createStatement(); var rows = statement.executeQuery(SHOWN)) {
            rows.next();
            return rows.getString(1);
        }
    }

    static void operate() {
        try (Connection connection = ConnectPostgreSql.connect()) {
            System.out.println(shown(connection));
        } catch (Exception error) {
            var text = new StringBuilder("failed:");
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                text.append(' ').append(cause);
            }
            System.out.println(text.toString().replaceAll("\\s+", " "));
        }
    }

    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        operate();
        while (lines.readLine() != null) {
            operate();
        }
    }
}
