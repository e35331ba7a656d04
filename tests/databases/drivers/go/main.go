// Does one operation at the start and one for each line of its input, with the client that the page makes.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

func operate(client *mongo.Client) {
	err := client.Database("shop").Collection("orders").FindOne(context.Background(), bson.D{}).Err()
	if err == nil || errors.Is(err, mongo.ErrNoDocuments) {
		fmt.Println("ok")
	} else {
		fmt.Println("failed:", strings.Join(strings.Fields(err.Error()), " "))
	}
}

func main() {
	client, err := connect()
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	operate(client)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		operate(client)
	}
	_ = client.Disconnect(context.Background())
}
